// conv|linear(x, w[, b]) -> mul(constant per output channel)   =>   conv|linear(x, w * constant[, b * constant])
//
// The mul must be the only reader, the constant must have one element or one per output channel along the channel
// dimension, and nothing (residual, activation) may stand between. As with batch norms, products are rounded once per
// weight instead of once per result.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

bool takes_scale(const Node& n) {
  if (!is_one_of(n, {Op::conv, Op::linear}) || n.input(3) != nullptr) return false;
  if (n.attributes().string("activation") != "none" || float_constant(n.input(1)).empty()) return false;
  return n.input(2) == nullptr || !float_constant(n.input(2)).empty();
}

std::vector<float> scaled(std::span<const float> values, std::span<const float> factors) {
  const std::size_t each = values.size() / factors.size();
  std::vector<float> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i] * factors[i / each];
  return out;
}

// Operand `i`, whose first dimension counts output channels, times the factors.
void scale_operand(Graph& graph, Node* n, std::size_t i, std::span<const float> factors) {
  const Tensor& old = *constant_tensor(n->input(i));
  const std::string label = n->input(i)->def()->label();
  graph.set_input(n, i, graph.constant(float_tensor(old.shape(), scaled(old.as<float>(), factors)), n, label));
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    while (takes_scale(*n)) {
      Node* mul = only_user(n->output());
      if (mul == nullptr || !mul->is(Op::mul) || !(mul->output()->type() == n->output()->type())) break;
      const Value* other = mul->input(0) == n->output() ? mul->input(1) : mul->input(0);
      const std::vector<float> factors = per_output_channel(*n, other);
      if (factors.empty()) break;
      scale_operand(graph, n, 1, factors);
      if (n->input(2) != nullptr) scale_operand(graph, n, 2, factors);
      merge_origins(n, mul);
      replace_node(graph, mul, n->output());
      changed = true;
    }
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fuse_scale;
const PassDef kPass_fuse_scale = {.name = "fuse-scale",
                                  .summary = "Multiplies a constant factor into the weight of a convolution or linear.",
                                  .run = run};

}  // namespace aoq
