#include "ir/ops/recurrent.h"

namespace aoq {

namespace ops {

// Gates z, r, h in that order.
std::vector<float> gru_reset_gates(const RecurrentDirection& d) {
  std::vector<float> reset;
  for (std::int64_t k = 0; k < d.hidden; ++k) reset.push_back(d.activations[0](d.clipped(d.gate(d.hidden + k))));
  return reset;
}

void gru_step(RecurrentDirection& d, const std::vector<float>& reset, LinearBeforeReset order, float* h) {
  std::int64_t n = d.hidden;
  for (std::int64_t k = 0; k < n; ++k) {
    auto at = static_cast<std::size_t>(2 * n + k);
    float z = d.activations[0](d.clipped(d.gate(k)));
    float v = 0.0f;
    if (order == LinearBeforeReset::yes) {
      float recurrent = d.r_part[at] + d.r_bias(2 * n + k);
      v = (d.x_part[at] + reset[static_cast<std::size_t>(k)] * recurrent) + d.w_bias(2 * n + k);
    } else {
      v = ((d.x_part[at] + d.r_part[at]) + d.w_bias(2 * n + k)) + d.r_bias(2 * n + k);
    }
    float candidate = d.activations[1](d.clipped(v));
    h[k] = (1.0f - z) * candidate + z * h[k];
  }
}

}  // namespace ops

namespace {

// The recurrent sum of hidden gate k over r * h.
float reset_sum(const ops::RecurrentDirection& d, const std::vector<float>& reset, const float* h, std::int64_t k) {
  float sum = 0.0f;
  for (std::int64_t j = 0; j < d.hidden; ++j) {
    float weight = d.r[static_cast<std::size_t>(j * 3 * d.hidden + 2 * d.hidden + k)];
    sum = std::fma(d.seen(reset[static_cast<std::size_t>(j)] * h[j]), weight, sum);
  }
  return sum;
}

void step(const void* context, ops::RecurrentDirection& d, float* h, float*) {
  std::vector<float> reset = ops::gru_reset_gates(d);
  if (static_cast<const EvalContext*>(context)->attributes.boolean("linear_before_reset")) {
    return ops::gru_step(d, reset, ops::LinearBeforeReset::yes, h);
  }
  for (std::int64_t k = 0; k < d.hidden; ++k) {
    d.r_part[static_cast<std::size_t>(2 * d.hidden + k)] = reset_sum(d, reset, h, k);
  }
  ops::gru_step(d, reset, ops::LinearBeforeReset::no, h);
}

}  // namespace

const OpDef kOpDef_gru = {
    .op = Op::gru,
    .name = "gru",
    .doc =
        "Gated recurrent unit with gates z, r, h: h = (1 - z) * candidate + z * h. Steps at and after a sequence's "
        "length "
        "give 0 and leave the state."
        " In a quantized graph w and r are dequantized codes and x is quantized by choose_qparams; the state stays in "
        "float until lowering makes a qgru, which quantizes it in every step.",
    .inputs = ops::kStateInputs,
    .attributes = {{ops::kHidden,
                    ops::kDirection,
                    ops::kActivations,
                    ops::kClip,
                    ops::kStateScale,
                    ops::kStateZeroPoint,
                    {"linear_before_reset", AttributeKind::boolean, "false",
                     "the reset gate multiplies the recurrent sum, not the state"}}},
    .outputs = 2,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_recurrent(c, ops::kGruForm); },
    .reference = [](const EvalContext& c) { return ops::run_recurrent(c, ops::kGruForm, {&c, step}); },
};

}  // namespace aoq
