#include "ir/ops/recurrent.h"

namespace aoq {

namespace {

constexpr std::string_view kDefaults[] = {"sigmoid", "tanh"};
constexpr ops::RecurrentForm kForm = {3, kDefaults, false};

// The recurrent sum of hidden gate k over r * h.
float reset_sum(const ops::RecurrentDirection& d, const std::vector<float>& reset, const float* h, std::int64_t k) {
  float sum = 0.0f;
  for (std::int64_t j = 0; j < d.hidden; ++j) {
    float weight = d.r[static_cast<std::size_t>(j * 3 * d.hidden + 2 * d.hidden + k)];
    sum = std::fma(reset[static_cast<std::size_t>(j)] * h[j], weight, sum);
  }
  return sum;
}

// Gates z, r, h in that order.
void step(const void* context, ops::RecurrentDirection& d, float* h, float*) {
  bool linear_before_reset = static_cast<const EvalContext*>(context)->attributes.boolean("linear_before_reset");
  std::int64_t n = d.hidden;
  std::vector<float> reset(static_cast<std::size_t>(n));
  std::vector<float> next(reset.size());
  for (std::int64_t k = 0; k < n; ++k) reset[static_cast<std::size_t>(k)] = d.activations[0](d.clipped(d.gate(n + k)));
  for (std::int64_t k = 0; k < n; ++k) {
    auto at = static_cast<std::size_t>(2 * n + k);
    float z = d.activations[0](d.clipped(d.gate(k)));
    float v = 0.0f;
    if (linear_before_reset) {
      float recurrent = d.r_part[at] + d.r_bias(2 * n + k);
      v = (d.x_part[at] + reset[static_cast<std::size_t>(k)] * recurrent) + d.w_bias(2 * n + k);
    } else {
      v = ((d.x_part[at] + reset_sum(d, reset, h, k)) + d.w_bias(2 * n + k)) + d.r_bias(2 * n + k);
    }
    float candidate = d.activations[1](d.clipped(v));
    next[static_cast<std::size_t>(k)] = (1.0f - z) * candidate + z * h[k];
  }
  for (std::int64_t k = 0; k < n; ++k) h[k] = next[static_cast<std::size_t>(k)];
}

}  // namespace

const OpDef kOpDef_gru = {
    .op = Op::gru,
    .name = "gru",
    .doc =
        "Gated recurrent unit with gates z, r, h: h = (1 - z) * candidate + z * h. Steps at and after a sequence's "
        "length "
        "give 0 and leave the state.",
    .inputs = {{{"x"},
                {"w"},
                {"r"},
                {"bias", Arity::optional},
                {"sequence_lengths", Arity::optional},
                {"initial_h", Arity::optional}}},
    .attributes = {{ops::kHidden,
                    ops::kDirection,
                    ops::kActivations,
                    ops::kClip,
                    {"linear_before_reset", AttributeKind::boolean, "false",
                     "the reset gate multiplies the recurrent sum, not the state"}}},
    .outputs = 2,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_recurrent(c, kForm); },
    .reference = [](const EvalContext& c) { return ops::run_recurrent(c, kForm, {&c, step}); },
};

}  // namespace aoq
