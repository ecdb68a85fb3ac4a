#include "ir/math.h"
#include "ir/ops/observed_recurrent.h"

namespace aoq {

namespace {

void step(const void*, ops::RecurrentDirection& d, float* h, float* cell) {
  ops::lstm_step(d, ops::InputForget::no, h, cell);
}

void record(const ops::RecurrentDirection& d, const float*, const float* cell, float* const* out) {
  const std::int64_t n = d.hidden;
  for (std::int64_t k = 0; k < 4 * n; ++k) {
    out[ops::kLstmIgates][k] = d.x_part[static_cast<std::size_t>(k)] + d.w_bias(k);
    out[ops::kLstmHgates][k] = d.r_part[static_cast<std::size_t>(k)] + d.r_bias(k);
    out[ops::kLstmGates][k] = d.gate(k);
  }
  const float* gates = out[ops::kLstmGates];  // i, o, f, c
  for (std::int64_t k = 0; k < n; ++k) {
    out[ops::kForgetCell][k] = math::sigmoid(gates[2 * n + k]) * cell[k];
    out[ops::kInputCell][k] = math::sigmoid(gates[k]) * math::tanh(gates[3 * n + k]);
    out[ops::kCell][k] = out[ops::kForgetCell][k] + out[ops::kInputCell][k];
    out[ops::kLstmHidden][k] = math::sigmoid(gates[n + k]) * math::tanh(out[ops::kCell][k]);
  }
}

}  // namespace

const OpDef kOpDef_observed_lstm = {
    .op = Op::observed_lstm,
    .name = "observed_lstm",
    .doc =
        "lstm with its inner values as further results, [d, T, B, n] in the order of each direction's steps: igates, "
        "hgates, gates, fgate_cx, igate_cgate, fgate_cx_igate_cgate and ogate_cy (ir/ops/observed_recurrent.h).",
    .inputs = ops::with_inputs(ops::kStateInputs, {ops::kInitialCell}),
    .attributes = {{ops::kHidden, ops::kDirection, ops::kWeightSpec, ops::kPlace}},
    .outputs = 10,
    .traits = kPreparedOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_observed(c, ops::kLstmForm, ops::kLstmValues); },
    .reference =
        [](const EvalContext& c) {
          return ops::run_observed(c, ops::kLstmForm, ops::kLstmValues, {nullptr, step}, record);
        },
};

}  // namespace aoq
