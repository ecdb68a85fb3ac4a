#include "passes/fx/leaves.h"

#include <algorithm>

#include "ir/error_id.h"
#include "passes/fx/standalone.h"

namespace aoq::fx {

Status mark_leaves(Graph& graph, const CustomConfig& custom) {
  std::vector<std::pair<std::string, std::string>> leaves;  // path, type
  for (const std::string& name : custom.non_traceable_module_name) leaves.emplace_back(name, "NonTraceable");
  for (const std::string& type : custom.non_traceable_module_class) {
    const std::vector<std::string> paths = modules_of_class(graph, type);
    if (paths.empty()) {
      return error(ErrorId::recipe_invalid, "non_traceable_module_class: the model has no module of class \"{}\"",
                   type);
    }
    for (const std::string& path : paths) leaves.emplace_back(path, type);
  }
  for (const auto& [path, type] : leaves) {
    std::string name = path;
    std::replace(name.begin(), name.end(), '.', '_');
    bool found = false;
    for (Node* n : graph.nodes()) {
      if (!is_in_module(n->scope.path, path)) continue;
      found = true;
      // A module given by name keeps its own type.
      const bool keeps = type == "NonTraceable" && n->scope.path == path && n->scope.callee != "getattr";
      n->scope = {path, keeps ? n->scope.type : type, "leaf"};
      if (!n->is(Op::constant)) n->origins.insert(n->origins.begin(), name);
    }
    if (!found) {
      return error(ErrorId::recipe_invalid, "non_traceable_module_name: the model has no module \"{}\"", path);
    }
  }
  return {};
}

}  // namespace aoq::fx
