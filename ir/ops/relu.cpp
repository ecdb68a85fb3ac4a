#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

namespace {

// Codes below the zero point stand for negative numbers.
Status relu_codes(const EvalContext& c, std::int64_t zero_point) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i) {
    std::int64_t code = load_integer(x.dtype, x.data, i);
    store_integer(y.dtype, y.data, i, code < zero_point ? zero_point : code);
  }
  return {};
}

}  // namespace

const OpDef kOpDef_relu = {
    .op = Op::relu,
    .name = "relu",
    .doc = "max(x, 0); NaN stays NaN.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::same_scale,
    .infer = ops::infer_same_scale,
    .reference = [](const EvalContext& c) -> Status {
      if (const Quantization* q = c.quantization(0); q && is_integer(c.inputs[0].dtype))
        return relu_codes(c, q->zero_point);
      bool is_unsigned = !is_signed_integer(c.inputs[0].dtype);
      return ops::unary(c, {.f32 = math::relu,
                            .f64 = [](double x) { return x < 0 ? 0.0 : x; },
                            .integer = is_unsigned ? [](std::int64_t x) { return x; }
                                                   : [](std::int64_t x) { return x < 0 ? std::int64_t{0} : x; }});
    },
};

}  // namespace aoq
