// conv|linear(x, w[, b]) -> add(constant per output channel)   =>   conv|linear(x, w, b + constant)
//
// The add must be the only reader, the constant must have one element or one per output channel along the channel
// dimension, and nothing (residual, activation) may stand between.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    while (takes_bias(*n)) {
      Node* add = only_user(n->output());
      if (add == nullptr || !add->is(Op::add) || !(add->output()->type() == n->output()->type())) break;
      const Value* other = add->input(0) == n->output() ? add->input(1) : add->input(0);
      std::vector<float> bias = per_output_channel(*n, other);
      if (bias.empty()) break;
      std::span<const float> old = float_constant(n->input(2));
      for (std::size_t c = 0; c < old.size(); ++c) bias[c] = old[c] + bias[c];
      graph.set_input(
          n, 2, graph.constant(float_tensor({static_cast<std::int64_t>(bias.size())}, bias), n, other->def()->label()));
      merge_origins(n, add);
      replace_node(graph, add, n->output());
      changed = true;
    }
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fuse_bias;
const PassDef kPass_fuse_bias = {
    .name = "fuse-bias", .summary = "Turns an added constant into the bias of a convolution or linear.", .run = run};

}  // namespace aoq
