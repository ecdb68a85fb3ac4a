#include "ir/ops/recurrent.h"

namespace aoq {

namespace ops {

void rnn_step(RecurrentDirection& d, float* h) {
  for (std::int64_t k = 0; k < d.hidden; ++k) h[k] = d.activations[0](d.clipped(d.gate(k)));
}

}  // namespace ops

namespace {

void step(const void*, ops::RecurrentDirection& d, float* h, float*) {
  ops::rnn_step(d, h);
}

}  // namespace

const OpDef kOpDef_rnn = {
    .op = Op::rnn,
    .name = "rnn",
    .doc =
        "The plain recurrent cell: h = f(x * w^T + h * r^T + bias). Steps at and after a sequence's length give 0 and "
        "leave the state."
        " In a quantized graph w and r are dequantized codes and x is quantized by choose_qparams; the state stays in "
        "float until lowering makes a qrnn, which quantizes it in every step.",
    .inputs = ops::kStateInputs,
    .attributes = {{ops::kHidden, ops::kDirection, ops::kActivations, ops::kClip}},
    .outputs = 2,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_recurrent(c, ops::kRnnForm); },
    .reference = [](const EvalContext& c) { return ops::run_recurrent(c, ops::kRnnForm, {&c, step}); },
};

}  // namespace aoq
