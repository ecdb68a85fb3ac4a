// conv|conv_transpose|linear -> batch_norm   =>   the same node with scaled weight and bias.
//
// With r = 1 / sqrt(variance + epsilon): bn(W x + b) = (W gamma r) x + (b - mean) r gamma + beta, per output channel,
// in this order (pytorch-semantics B.4). Needs constants everywhere, one reader of the first node, and no activation or
// residual between the two.
#include <cmath>

#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

struct Affine {
  std::vector<float> factor;  // of the weight
  std::span<const float> mean, gamma, beta;
  std::vector<float> inverse;  // 1 / sqrt(variance + epsilon)

  float bias(std::size_t c, float b) const { return (b - mean[c]) * inverse[c] * gamma[c] + beta[c]; }
};

bool read_affine(const Node& bn, Affine* out) {
  std::span<const float> gamma = float_constant(bn.input(1)), beta = float_constant(bn.input(2)),
                         mean = float_constant(bn.input(3)), variance = float_constant(bn.input(4));
  if (gamma.empty() || beta.empty() || mean.empty() || variance.empty()) return false;
  float epsilon = static_cast<float>(bn.attributes().real("epsilon"));
  for (std::size_t i = 0; i < gamma.size(); ++i) {
    out->inverse.push_back(1.0f / std::sqrt(variance[i] + epsilon));
    out->factor.push_back(gamma[i] * out->inverse.back());
  }
  out->mean = mean;
  out->gamma = gamma;
  out->beta = beta;
  return true;
}

// The output channel of element i of the weight.
std::size_t channel_of(const Node& n, const Tensor& weight, std::size_t i) {
  const std::vector<std::int64_t>& shape = weight.shape();
  auto count = static_cast<std::size_t>(weight.element_count());
  auto first = static_cast<std::size_t>(shape[0]);
  if (!n.is(Op::conv_transpose)) return i / (count / first);
  auto groups = static_cast<std::size_t>(n.attributes().integer("groups"));
  auto out_per_group = static_cast<std::size_t>(shape[1]);
  std::size_t spatial = count / (first * out_per_group);
  std::size_t in = i / (out_per_group * spatial);
  return in / (first / groups) * out_per_group + i / spatial % out_per_group;
}

bool foldable(const Node& n) {
  if (!is_one_of(n, {Op::conv, Op::conv_transpose, Op::linear})) return false;
  if (float_constant(n.input(1)).empty()) return false;
  if (n.input(2) != nullptr && float_constant(n.input(2)).empty()) return false;
  const Attribute* activation = n.attributes().find("activation");
  return n.input(3) == nullptr && (activation == nullptr || std::get<std::string>(*activation) == "none");
}

Status fold(Graph& graph, Node* n, Node* bn, const Affine& affine) {
  const Tensor& weight = *constant_tensor(n->input(1));
  std::span<const float> w = weight.as<float>();
  std::vector<float> scaled(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) scaled[i] = w[i] * affine.factor[channel_of(*n, weight, i)];
  std::vector<float> bias(affine.factor.size());
  std::span<const float> old_bias = float_constant(n->input(2));
  for (std::size_t c = 0; c < bias.size(); ++c) bias[c] = affine.bias(c, old_bias.empty() ? 0.0f : old_bias[c]);

  Value* new_weight = graph.constant(float_tensor(weight.shape(), scaled), n, n->input(1)->def()->label());
  Value* new_bias =
      graph.constant(float_tensor({static_cast<std::int64_t>(bias.size())}, bias), n, bn->label() + ".bias");
  graph.set_input(n, 1, new_weight);
  graph.set_input(n, 2, new_bias);
  merge_origins(n, bn);
  replace_node(graph, bn, n->output());
  return {};
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    // The batch_norm is erased, not the node the loop stands on.
    while (foldable(*n)) {
      Node* bn = only_user(n->output());
      Affine affine;
      if (bn == nullptr || !bn->is(Op::batch_norm) || !read_affine(*bn, &affine)) break;
      const Attribute* last = n->attributes().find("channels_last");
      bool n_last = n->is(Op::linear) ? n->output()->type().rank() > 2 : last != nullptr && std::get<bool>(*last);
      if (n_last != bn->attributes().boolean("channels_last")) break;
      AOQ_TRY(fold(graph, n, bn, affine));
      changed = true;
    }
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fold_batch_norm;
const PassDef kPass_fold_batch_norm = {
    .name = "fold-batch-norm", .summary = "Folds a batch norm into the convolution or linear before it.", .run = run};

}  // namespace aoq
