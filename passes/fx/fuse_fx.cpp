// fuse: conv - batch_norm - relu   =>   one module, the batch norm folded into the weights.
//
// The relu stays a node of its own with the name and scope of the convolution, so that both are one unit.
#include <algorithm>

#include "passes/fx/match_units.h"
#include "passes/fx/standalone.h"
#include "passes/fx/workflow.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

std::string rule_of(const Recipe& recipe, const Unit& unit) {
  std::vector<std::string> keys = unit.keys();
  // In a fused module a functional relu is a relu module.
  if (keys[0] == "F.relu") keys = {"ReLU", "relu"};
  for (const QConfigRule& rule : recipe.object_type) {
    if (std::find(keys.begin(), keys.end(), rule.first) == keys.end()) continue;
    if (!rule.second) return "null";
    return print_observer_spec(rule.second->activation) + print_observer_spec(rule.second->weight);
  }
  return {};
}

Status check_rules(const Recipe& recipe, const Units& units, const std::vector<int>& chain) {
  const Unit& first = units.all()[static_cast<std::size_t>(chain[0])];
  for (int i : chain) {
    const Unit& unit = units.all()[static_cast<std::size_t>(i)];
    if (rule_of(recipe, unit) == rule_of(recipe, first)) continue;
    return error(
        Code::invalid_argument,
        "\"{}\" and \"{}\" are fused into one module, but object_type gives {} and {} different qconfigs: give "
        "both the same",
        first.name, unit.name, first.keys()[0], unit.keys()[0]);
  }
  return {};
}

// The members take the first one's name and place, and keep what they are.
void fuse(const Units& units, const std::vector<int>& chain) {
  const Unit& first = units.all()[static_cast<std::size_t>(chain[0])];
  const Scope scope = first.scope();
  for (int i : chain) {
    for (Node* n : units.all()[static_cast<std::size_t>(i)].nodes) {
      std::vector<std::string> origins{first.name};
      for (const std::string& o : n->origins) {
        if (std::find(origins.begin(), origins.end(), o) == origins.end()) origins.push_back(o);
      }
      n->origins = std::move(origins);
      n->scope.path = scope.path;
      n->scope.callee = scope.callee;
    }
  }
}

}  // namespace

Status fuse_fx(Graph& graph, const Recipe& recipe) {
  AOQ_ASSIGN(const BackendConfig config, backend_of(recipe));
  AOQ_ASSIGN(std::vector<StandaloneModule> standalone, take_out_standalone(graph, recipe));
  for (StandaloneModule& module : standalone) {
    AOQ_TRY(fuse_fx(module.graph, *module.recipe).with_context(fmt::format("standalone module \"{}\"", module.path)));
  }
  {
    const Units units(graph);
    const std::vector<const BackendPattern*> patterns = by_length(config, Fused::only);
    std::vector<bool> taken(units.all().size());
    for (int last = static_cast<int>(units.all().size()) - 1; last >= 0; --last) {
      for (const BackendPattern* p : patterns) {
        const std::vector<int> chain = chain_ending_at(units, *p, last);
        const bool is_free =
            std::none_of(chain.begin(), chain.end(), [&](int i) { return taken[static_cast<std::size_t>(i)]; });
        if (chain.empty() || !is_free) continue;
        AOQ_TRY(check_rules(recipe, units, chain));
        fuse(units, chain);
        for (int i : chain) taken[static_cast<std::size_t>(i)] = true;
        break;
      }
    }
  }
  if (!recipe.qat) {
    const std::vector<std::string> fold{"fold-batch-norm", "dce"};
    PassContext context;
    AOQ_TRY(run_passes(graph, fold, context).status());
  }
  return put_back_standalone(graph, standalone);
}

}  // namespace aoq::fx
