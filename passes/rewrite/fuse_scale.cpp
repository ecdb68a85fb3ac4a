// conv|linear(x, w[, b]) -> mul(constant per output channel)   =>   conv|linear(x, w * constant[, b * constant])
//
// The mul must be the only reader, the constant must have one element or one per output channel along the channel
// dimension, and nothing (residual, activation) may stand between. As with batch norms, products are rounded once per
// weight instead of once per result.
//
// One number that x is multiplied with or to which it is added goes into the layer behind as well:
//
//   conv|linear(x * a, w, b)   =>   conv|linear(x, w * a, b)
//   conv|linear(x + s, w, b)   =>   conv|linear(x, w, b + s * (sum of w))    without padding, which s is not added to
//   conv(x * a + s, w, b)      =>   conv(x + s / a, w * a, b)                with padding
#include <algorithm>
#include <cmath>

#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

bool takes_scale(const Node& n) {
  return takes_bias(n) && !float_constant(n.input(1)).empty();
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

// The layer's x where it is `op` of another value and one finite number, and nobody else reads it.
struct WithNumber {
  Node* node = nullptr;
  Value* x = nullptr;
  float number = 0;
};

WithNumber with_number(const Value* v, Op op) {
  WithNumber found;
  Node* node = v->def();
  if (!node->is(op) || !v->has_one_use()) return found;
  for (std::size_t i : {0, 1}) {
    const std::span<const float> data = float_constant(node->input(i));
    Value* other = node->input(1 - i);
    if (data.size() != 1 || !std::isfinite(data[0]) || !(other->type() == v->type())) continue;
    return {node, other, data[0]};
  }
  return found;
}

bool is_padded(const Node& n) {
  return n.is(Op::conv) && std::ranges::any_of(n.attributes().integers("pads"), [](auto pad) { return pad != 0; });
}

bool takes_number(const Node& n) {
  if (!is_one_of(n, {Op::conv, Op::linear}) || float_constant(n.input(1)).empty()) return false;
  return n.input(2) == nullptr || !float_constant(n.input(2)).empty();
}

// b + s * (sum of w), each sum in ascending order.
void add_to_bias(Graph& graph, Node* n, const WithNumber& sum) {
  const std::span<const float> w = float_constant(n->input(1)), old = float_constant(n->input(2));
  const auto channels = static_cast<std::size_t>(constant_tensor(n->input(1))->shape()[0]);
  const std::size_t each = w.size() / channels;
  std::vector<float> bias(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    float total = 0;
    for (std::size_t i = 0; i < each; ++i) total = total + w[c * each + i];
    bias[c] = (old.empty() ? 0.0f : old[c]) + sum.number * total;
  }
  const std::string label = old.empty() ? sum.node->label() : n->input(2)->def()->label();
  graph.set_input(n, 2, graph.constant(float_tensor({static_cast<std::int64_t>(channels)}, bias), n, label));
}

void take_input(Graph& graph, Node* n, const WithNumber& from) {
  merge_origins(n, from.node);
  graph.set_input(n, 0, from.x);
  graph.erase(from.node);
}

// The sum s / a with the product's x, and a in the weight.
Result<bool> swap_with_padding(Graph& graph, Node* n, const WithNumber& sum) {
  const WithNumber product = with_number(sum.x, Op::mul);
  const float shift = sum.number / product.number;
  if (product.node == nullptr || product.number == 0.0f || !std::isfinite(shift)) return false;
  Value* constant = graph.constant(float_tensor({}, std::vector<float>{shift}), sum.node);
  AOQ_ASSIGN(Node * made, graph.create_like(*sum.node, Op::add, {product.x, constant}, {}, sum.node));
  merge_origins(made, product.node);
  scale_operand(graph, n, 1, std::vector<float>{product.number});
  graph.set_input(n, 0, made->output());
  graph.erase(sum.node);
  graph.erase(product.node);
  return true;
}

Result<bool> absorb_number(Graph& graph, Node* n) {
  if (!takes_number(*n) || constant_tensor(n->input(1))->shape()[0] == 0) return false;
  if (const WithNumber product = with_number(n->input(0), Op::mul); product.node != nullptr) {
    scale_operand(graph, n, 1, std::vector<float>{product.number});
    take_input(graph, n, product);
    return true;
  }
  const WithNumber sum = with_number(n->input(0), Op::add);
  if (sum.node == nullptr) return false;
  if (is_padded(*n)) return swap_with_padding(graph, n, sum);
  add_to_bias(graph, n, sum);
  take_input(graph, n, sum);
  return true;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    for (bool absorbed = true; absorbed;) {
      AOQ_ASSIGN(absorbed, absorb_number(graph, n));
      changed = changed || absorbed;
    }
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
const PassDef kPass_fuse_scale = {
    .name = "fuse-scale",
    .summary = "Takes constant factors and summands around a convolution or linear into its weight and bias.",
    .run = run};

}  // namespace aoq
