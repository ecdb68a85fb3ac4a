// QNNPACK keeps biases as int32 in steps of the products: b   =>   round_half_even(b / (s_x * s_w)) * (s_x * s_w)
// (pytorch-semantics C.6).
#include <cmath>

#include "passes/fx/workflow.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

using namespace rewrite;

// The scale of a static stub in front of an operand; 0 where there is none.
float static_scale(const Value* v) {
  const Node& dq = *v->def();
  if (!dq.is(Op::dequantize)) return 0;
  if (const Attribute* scale = dq.attributes().find("scale")) return static_cast<float>(std::get<double>(*scale));
  const std::optional<Quantization>& q = dq.input(0)->type().quantization;
  return q && q->is_immediate ? q->scale : 0;
}

}  // namespace

Status round_biases(Graph& graph) {
  for (Node* n : graph.nodes()) {
    if (!is_one_of(*n, {Op::conv, Op::linear}) || float_constant(n->input(2)).empty()) continue;
    const float x_scale = static_scale(n->input(0));
    const Node& weight = *n->input(1)->def();
    if (x_scale == 0 || !weight.is(Op::dequantize) || weight.inputs().size() < 2) continue;
    const std::span<const float> w_scale = float_constant(weight.input(1));
    const std::span<const float> old = float_constant(n->input(2));
    if (w_scale.size() != 1 && w_scale.size() != old.size()) continue;
    std::vector<float> bias(old.begin(), old.end());
    for (std::size_t i = 0; i < bias.size(); ++i) {
      const float step = x_scale * w_scale[w_scale.size() == 1 ? 0 : i];
      bias[i] = std::nearbyint(bias[i] / step) * step;
    }
    Value* rounded = graph.constant(float_tensor({static_cast<std::int64_t>(bias.size())}, bias), n->input(2)->def(),
                                    n->input(2)->def()->label());
    rounded->def()->scope = n->input(2)->def()->scope;
    rounded->def()->origins = n->input(2)->def()->origins;
    Value* replaced = n->input(2);
    graph.set_input(n, 2, rounded);
    if (replaced->uses().empty()) graph.erase(replaced->def());
  }
  return {};
}

}  // namespace aoq::fx
