#include "ir/ops/activation.h"
#include "ir/ops/convolution.h"

namespace aoq {

namespace {

Result<std::vector<Type>> infer(const InferContext& c) {
  AOQ_TRY(ops::require_float(c.input(0)));
  AOQ_TRY(ops::require_one_dtype(c));
  AOQ_TRY(ops::read_activation(c.attributes).status());
  AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_conv_shape(c, ops::WindowDirection::forward));
  if (c.has(3)) AOQ_TRY(ops::require_shape("residual", c.input(3), shape));
  return ops::one_result(c.input(0).dtype, std::move(shape));
}

struct Finish {
  const float* bias;
  const float* residual;
  float* y;
  ops::Activation activation;
};

void finish(const void* context, std::span<const float> accumulators, std::int64_t at, std::int64_t step,
            std::int64_t channel) {
  const Finish& f = *static_cast<const Finish*>(context);
  for (float v : accumulators) {
    if (f.bias != nullptr) v = v + f.bias[channel];
    if (f.residual != nullptr) v = v + f.residual[at];
    f.y[at] = f.activation(v);
    at += step;
    ++channel;
  }
}

Status reference(const EvalContext& c) {
  ops::ConvGeometry geometry = ops::conv_geometry(c, ops::WindowDirection::forward);
  ops::FloatInput x(c.inputs[0]);
  ops::FloatInput weight(c.inputs[1]);
  ops::FloatInput bias(c.has(2) ? c.inputs[2] : TensorView{});
  ops::FloatInput residual(c.has(3) ? c.inputs[3] : TensorView{});
  ops::FloatOutput y(c.outputs[0]);
  AOQ_ASSIGN(ops::Activation activation, ops::read_activation(c.attributes));
  Finish context{bias.data(), residual.data(), y.data(), activation};
  ops::convolve(geometry, x.data(), weight.data(), {&context, finish});
  return {};
}

}  // namespace

const OpDef kOpDef_conv = {
    .op = Op::conv,
    .name = "conv",
    .doc =
        "activation(convolution + bias + residual) over 1, 2 or 3 spatial dimensions. Each sum is one chain of fused "
        "multiply-adds from 0: kernel positions row-major, then channels; positions in the padding are skipped.",
    .inputs = {{{"x"}, {"weight"}, {"bias", Arity::optional}, {"residual", Arity::optional}}},
    .attributes = {{ops::kStride, ops::kDilation, ops::kPads, ops::kGroups, ops::kChannelsLast, ops::kActivation,
                    ops::kActivationMin, ops::kActivationMax}},
    .rule = QuantRule::requantize,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
