#include "ir/ops/convolution.h"

namespace aoq {

namespace {

struct Finish {
  const float* bias;
  float* y;
};

void finish(const void* context, std::span<const float> accumulators, std::int64_t at, std::int64_t step,
            std::int64_t channel) {
  const Finish& f = *static_cast<const Finish*>(context);
  for (float v : accumulators) {
    f.y[at] = f.bias != nullptr ? v + f.bias[channel] : v;
    at += step;
    ++channel;
  }
}

}  // namespace

const OpDef kOpDef_conv_transpose = {
    .op = Op::conv_transpose,
    .name = "conv_transpose",
    .doc =
        "The transposed convolution plus bias: input pixel i adds to output i * stride + k * dilation - pad. Each sum "
        "is "
        "one chain of fused multiply-adds from 0: kernel positions row-major, then channels.",
    .inputs = {{{"x"}, {"weight"}, {"bias", Arity::optional}}},
    .attributes = {{ops::kStride,
                    ops::kDilation,
                    ops::kPads,
                    {"output_padding", AttributeKind::integers, "[]", "extra length at the ends; none: 0"},
                    ops::kGroups,
                    ops::kChannelsLast}},
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_float(c.input(0)));
      AOQ_TRY(ops::require_one_dtype(c));
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_conv_shape(c, ops::WindowDirection::transposed));
      return ops::one_result(c.input(0).dtype, std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::ConvGeometry geometry = ops::conv_geometry(c, ops::WindowDirection::transposed);
      ops::FloatInput x(c.inputs[0]);
      ops::FloatInput weight(c.inputs[1]);
      ops::FloatInput bias(c.has(2) ? c.inputs[2] : TensorView{});
      ops::FloatOutput y(c.outputs[0]);
      Finish context{bias.data(), y.data()};
      ops::convolve(geometry, x.data(), weight.data(), {&context, finish});
      return {};
    },
};

}  // namespace aoq
