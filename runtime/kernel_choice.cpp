#include "runtime/kernel_choice.h"

#include <fmt/format.h>

namespace aoq {

std::string kernel_choice_key(const Node& node) {
  return fmt::format("{}{}.{}", kKernelChoicePrefix, node.def().name, node.label());
}

std::string_view chosen_row(const Graph& graph, const Node& node) {
  if (graph.metadata.empty()) return {};
  const auto found = graph.metadata.find(kernel_choice_key(node));
  return found == graph.metadata.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace aoq
