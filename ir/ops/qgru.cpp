#include "ir/ops/quantized_recurrent.h"

namespace aoq {

namespace {

bool is_linear_before_reset(const EvalContext& c) {
  return c.attributes.boolean("linear_before_reset");
}

void step(const void* context, ops::RecurrentDirection& d, float* h, float*) {
  bool before = is_linear_before_reset(*static_cast<const EvalContext*>(context));
  ops::gru_step(d, ops::gru_reset_gates(d), before ? ops::LinearBeforeReset::yes : ops::LinearBeforeReset::no, h);
}

}  // namespace

const OpDef kOpDef_qgru = {
    .op = Op::qgru,
    .name = "qgru",
    .doc =
        "gru with i8 weights (scales [d], or [d, G*H] for each output channel) and u8 activations "
        "whose scales are chosen in every run by the formula \"aten\" of choose_qparams: one for all of x (within the "
        "sequences), and "
        "one for the states of the batch at every time step. Products are exact int32 sums, times both scales, plus "
        "the bias; the gates are f32. Unless it is linear before reset, the "
        "reset states have a scale of their own.",
    .inputs = ops::kCodedStateInputs,
    .attributes = {{ops::kHidden,
                    ops::kDirection,
                    ops::kActivations,
                    ops::kClip,
                    ops::kStateScale,
                    ops::kStateZeroPoint,
                    ops::kStaticXScale,
                    ops::kStaticXZeroPoint,
                    ops::kReduceRange,
                    {"linear_before_reset", AttributeKind::boolean, "false",
                     "the reset gate multiplies the recurrent sum, not the state"}}},
    .outputs = 2,
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_quantized_recurrent(c, ops::kGruForm); },
    .reference =
        [](const EvalContext& c) {
          auto resets = is_linear_before_reset(c) ? ops::ResetsState::no : ops::ResetsState::yes;
          return ops::run_quantized_recurrent(c, ops::kGruForm, resets, {&c, step});
        },
};

}  // namespace aoq
