// The table of all handlers, joined from the families.
#include <unordered_map>

#include "formats/onnx/context.h"

namespace aoq::onnx {

namespace {

using Table = std::unordered_map<std::string_view, std::vector<const Handler*>>;

const Table& table() {
  static const Table joined = [] {
    Table t;
    for (std::span<const Handler> family : {elementwise_handlers(), nn_handlers(), shape_handlers(), reduce_handlers(),
                                            recurrent_handlers(), quant_handlers(), control_handlers()}) {
      for (const Handler& h : family) t[h.op_type].push_back(&h);
    }
    return t;
  }();
  return joined;
}

}  // namespace

const Handler* find_handler(std::string_view op_type, int opset, std::string* range) {
  auto it = table().find(op_type);
  if (it == table().end()) return nullptr;
  for (const Handler* h : it->second) {
    if (opset >= h->since && (h->until == 0 || opset <= h->until)) return h;
    if (range == nullptr) continue;
    if (!range->empty()) *range += ", ";
    *range += fmt::format("{} to {}", h->since, h->until == 0 ? kMaxOpset : h->until);
  }
  return nullptr;
}

}  // namespace aoq::onnx
