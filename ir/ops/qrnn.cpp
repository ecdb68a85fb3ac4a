#include "ir/ops/quantized_recurrent.h"

namespace aoq {

namespace {

void step(const void*, ops::RecurrentDirection& d, float* h, float*) {
  ops::rnn_step(d, h);
}

}  // namespace

const OpDef kOpDef_qrnn = {
    .op = Op::qrnn,
    .name = "qrnn",
    .doc =
        "rnn with i8 weights (scales [d], or [d, G*H] for each output channel) and u8 activations "
        "whose scales are chosen in every run by the formula \"aten\" of choose_qparams: one for all of x (within the "
        "sequences), and "
        "one for the states of the batch at every time step. Products are exact int32 sums, times both scales, plus "
        "the bias; the gates are f32.",
    .inputs = ops::kCodedStateInputs,
    .attributes = {{ops::kHidden, ops::kDirection, ops::kActivations, ops::kClip, ops::kReduceRange}},
    .outputs = 2,
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_quantized_recurrent(c, ops::kRnnForm); },
    .reference =
        [](const EvalContext& c) {
          return ops::run_quantized_recurrent(c, ops::kRnnForm, ops::ResetsState::no, {&c, step});
        },
};

}  // namespace aoq
