// conv|linear(x, w[, b]) -> add(constant per output channel)   =>   conv|linear(x, w, b + constant)
//
// The add must be the only reader, the constant must have one element or one per output channel along the channel
// dimension, and nothing (residual, activation) may stand between.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

// The position of the output channel, from the right: 1 for the last dimension.
std::size_t channel_from_right(const Node& n) {
  if (n.is(Op::linear) || n.attributes().boolean("channels_last")) return 1;
  return static_cast<std::size_t>(n.output()->type().rank()) - 1;
}

// The constant spread over the output channels, or empty when it varies over other dimensions.
std::vector<float> per_channel(const Node& n, const Value* constant) {
  std::span<const float> data = float_constant(constant);
  const Tensor* t = constant_tensor(constant);
  const std::vector<Dim>& weight = n.input(1)->type().shape;
  if (data.empty() || !weight[0].is_constant()) return {};
  auto channels = static_cast<std::size_t>(weight[0].constant());
  if (t->shape().size() > n.output()->type().shape.size()) return {};
  if (data.size() == 1) return std::vector<float>(channels, data[0]);
  std::size_t from_right = channel_from_right(n);
  if (data.size() != channels || t->shape().size() < from_right) return {};
  if (t->shape()[t->shape().size() - from_right] != static_cast<std::int64_t>(channels)) return {};
  return {data.begin(), data.end()};
}

bool takes_bias(const Node& n) {
  if (!is_one_of(n, {Op::conv, Op::linear}) || n.input(3) != nullptr) return false;
  if (n.attributes().string("activation") != "none") return false;
  return n.input(2) == nullptr || !float_constant(n.input(2)).empty();
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    while (takes_bias(*n)) {
      Node* add = only_user(n->output());
      if (add == nullptr || !add->is(Op::add) || !(add->output()->type() == n->output()->type())) break;
      const Value* other = add->input(0) == n->output() ? add->input(1) : add->input(0);
      std::vector<float> bias = per_channel(*n, other);
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
