#include "ir/ops/recurrent.h"

namespace aoq {

namespace ops {

// Gates i, o, f, c in that order; peepholes i, o, f.
void lstm_step(RecurrentDirection& d, InputForget input_forget, float* h, float* cell) {
  std::int64_t n = d.hidden;
  for (std::int64_t k = 0; k < n; ++k) {
    float i = d.gate(k);
    float o = d.gate(n + k);
    float f = d.gate(2 * n + k);
    if (d.peephole != nullptr) i = i + d.peephole[k] * cell[k];
    if (d.peephole != nullptr) f = f + d.peephole[2 * n + k] * cell[k];
    i = d.activations[0](d.clipped(i));
    f = input_forget == InputForget::yes ? 1.0f - i : d.activations[0](d.clipped(f));
    cell[k] = f * cell[k] + i * d.activations[1](d.clipped(d.gate(3 * n + k)));
    if (d.peephole != nullptr) o = o + d.peephole[n + k] * cell[k];
    h[k] = d.activations[0](d.clipped(o)) * d.activations[2](cell[k]);
  }
}

}  // namespace ops

namespace {

void step(const void* context, ops::RecurrentDirection& d, float* h, float* cell) {
  bool input_forget = static_cast<const EvalContext*>(context)->attributes.boolean("input_forget");
  ops::lstm_step(d, input_forget ? ops::InputForget::yes : ops::InputForget::no, h, cell);
}

}  // namespace

const OpDef kOpDef_lstm = {
    .op = Op::lstm,
    .name = "lstm",
    .doc =
        "Long short-term memory with gates i, o, f, c: cell = f * cell + i * g(c), h = o * h(cell). Steps at and after "
        "a "
        "sequence's length give 0 and leave the state."
        " In a quantized graph w and r are dequantized codes and x is quantized by choose_qparams; the state stays in "
        "float until lowering makes a qlstm, which quantizes it in every step.",
    .inputs = ops::with_inputs(ops::kStateInputs, {ops::kInitialCell, ops::kPeepholeInput}),
    .attributes = {{ops::kHidden,
                    ops::kDirection,
                    ops::kActivations,
                    ops::kClip,
                    ops::kStateScale,
                    ops::kStateZeroPoint,
                    {"input_forget", AttributeKind::boolean, "false", "f is 1 - i"}}},
    .outputs = 3,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_recurrent(c, ops::kLstmForm); },
    .reference = [](const EvalContext& c) { return ops::run_recurrent(c, ops::kLstmForm, {&c, step}); },
};

}  // namespace aoq
