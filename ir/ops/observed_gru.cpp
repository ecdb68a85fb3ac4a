#include "ir/math.h"
#include "ir/ops/observed_recurrent.h"

namespace aoq {

namespace {

void step(const void*, ops::RecurrentDirection& d, float* h, float*) {
  ops::gru_step(d, ops::gru_reset_gates(d), ops::LinearBeforeReset::yes, h);
}

void record(const ops::RecurrentDirection& d, const float* h, const float*, float* const* out) {
  const std::int64_t n = d.hidden;
  for (std::int64_t k = 0; k < 3 * n; ++k) {
    out[ops::kGruIgates][k] = d.x_part[static_cast<std::size_t>(k)] + d.w_bias(k);
    out[ops::kGruHgates][k] = d.r_part[static_cast<std::size_t>(k)] + d.r_bias(k);
    if (k < 2 * n) out[ops::kGruGates][k] = d.gate(k);
  }
  const float* gates = out[ops::kGruGates];  // z, r
  for (std::int64_t k = 0; k < n; ++k) {
    const float z = math::sigmoid(gates[k]), r = math::sigmoid(gates[n + k]);
    out[ops::kResetHgates][k] = r * out[ops::kGruHgates][2 * n + k];
    out[ops::kCandidateGates][k] =
        (d.x_part[static_cast<std::size_t>(2 * n + k)] + out[ops::kResetHgates][k]) + d.w_bias(2 * n + k);
    out[ops::kInverseCandidate][k] = (1.0f - z) * math::tanh(out[ops::kCandidateGates][k]);
    out[ops::kUpdateHidden][k] = z * h[k];
    out[ops::kGruHidden][k] = out[ops::kInverseCandidate][k] + out[ops::kUpdateHidden][k];
  }
}

}  // namespace

const OpDef kOpDef_observed_gru = {
    .op = Op::observed_gru,
    .name = "observed_gru",
    .doc =
        "gru, linear before reset, with its inner values as further results, [d, T, B, n] in the order of each "
        "direction's steps: igates, hgates, gates, rgate_hgates, ngates, inverse_zgate_ngate, zgate_hx and hidden "
        "(ir/ops/observed_recurrent.h).",
    .inputs = ops::kStateInputs,
    .attributes = {{ops::kHidden, ops::kDirection, ops::kWeightSpec, ops::kPlace}},
    .outputs = 10,
    .traits = kPreparedOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_observed(c, ops::kGruForm, ops::kGruValues); },
    .reference =
        [](const EvalContext& c) {
          return ops::run_observed(c, ops::kGruForm, ops::kGruValues, {nullptr, step}, record);
        },
};

}  // namespace aoq
