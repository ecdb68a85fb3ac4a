// Convolutions and pools of channels-first tensors   =>   permute, the same node with channels_last, permute back.
//
//   conv(x)   =>   permute(conv(permute(x, N S C)) {channels_last}, N C S)
//
// Kernels work on channels-last tensors. Neighbouring permutes cancel in sink-permutes and simplify-shapes.
#include "passes/rewrite/common.h"
#include "passes/rewrite/layout.h"

namespace aoq {

namespace {

using namespace rewrite;

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (is_channels_first(n->def(), n->inputs(), n->attributes())) {
      AOQ_ASSIGN(LayoutNode made, create_channels_last(graph, n, n->op(), n->inputs(), n->attributes()));
      replace_node(graph, n, made.result->output());
      changed = true;
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_channels_last;
const PassDef kPass_channels_last = {
    .name = "channels-last", .summary = "Gives convolutions and pools the channels-last layout.", .run = run};

}  // namespace aoq
