// relu|clamp|hardswish(conv|linear(...))   =>   conv|linear(...) with that activation
//
// The activation must be the only reader. It is the last thing the fused node does, so nothing is reordered.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if (!is_one_of(*n, {Op::conv, Op::linear}) || n->attributes().string("activation") != "none") continue;
    Node* act = only_user(n->output());
    if (act == nullptr || !is_one_of(*act, {Op::relu, Op::clamp, Op::hardswish})) continue;
    n->set_attribute("activation", std::string(act->def().name));
    if (act->is(Op::clamp)) {
      n->set_attribute("activation_min", act->attributes().real("min"));
      n->set_attribute("activation_max", act->attributes().real("max"));
    }
    merge_origins(n, act);
    replace_node(graph, act, n->output());
    changed = true;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fuse_activation;
const PassDef kPass_fuse_activation = {.name = "fuse-activation",
                                       .summary = "Applies an activation inside the convolution or linear before it.",
                                       .run = run};

}  // namespace aoq
