#include "ir/ops/quantized_recurrent.h"

namespace aoq {

namespace {

void step(const void* context, ops::RecurrentDirection& d, float* h, float* cell) {
  bool input_forget = static_cast<const EvalContext*>(context)->attributes.boolean("input_forget");
  ops::lstm_step(d, input_forget ? ops::InputForget::yes : ops::InputForget::no, h, cell);
}

}  // namespace

const OpDef kOpDef_qlstm = {
    .op = Op::qlstm,
    .name = "qlstm",
    .doc =
        "lstm with i8 weights (scales [d], or [d, G*H] for each output channel) and u8 activations "
        "whose scales are chosen in every run by the formula \"aten\" of choose_qparams: one for all of x (within the "
        "sequences), and "
        "one for the states of the batch at every time step. Products are exact int32 sums, times both scales, plus "
        "the bias; the gates are f32.",
    .inputs = ops::with_inputs(ops::kCodedStateInputs, {ops::kInitialCell, ops::kPeepholeInput}),
    .attributes = {{ops::kHidden,
                    ops::kDirection,
                    ops::kActivations,
                    ops::kClip,
                    ops::kStateScale,
                    ops::kStateZeroPoint,
                    ops::kStaticXScale,
                    ops::kStaticXZeroPoint,
                    ops::kReduceRange,
                    {"input_forget", AttributeKind::boolean, "false", "f is 1 - i"}}},
    .outputs = 3,
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_quantized_recurrent(c, ops::kLstmForm); },
    .reference =
        [](const EvalContext& c) {
          return ops::run_quantized_recurrent(c, ops::kLstmForm, ops::ResetsState::no, {&c, step});
        },
};

}  // namespace aoq
