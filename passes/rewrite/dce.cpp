// Removes nodes whose results nobody reads. Graph inputs and the output node stay: they are the signature.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

bool is_dead(const Node& n) {
  if (n.is(Op::input) || n.is(Op::output)) return false;
  for (std::size_t i = 0; i < n.output_count(); ++i) {
    if (!n.output(i)->uses().empty()) return false;
  }
  return true;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.last(); n != nullptr;) {
    Node* previous = n->previous();
    if (is_dead(*n)) {
      graph.erase(n);
      changed = true;
    }
    n = previous;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_dce;
const PassDef kPass_dce = {.name = "dce", .summary = "Removes nodes whose results nobody reads.", .run = run};

}  // namespace aoq
