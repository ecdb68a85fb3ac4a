#include <algorithm>

#include "ir/epilogue.h"
#include "ir/ops/qparams.h"

namespace aoq {

namespace {

using ops::Qparams;

void quantize_integers(const ops::FloatInput& x, const Qparams& qparams, const MutableTensorView& y) {
  auto qmin = static_cast<std::int32_t>(dtype_info(y.dtype).min);
  auto qmax = static_cast<std::int32_t>(dtype_info(y.dtype).max);
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i) {
    std::size_t part = qparams.part(i);
    store_integer(y.dtype, y.data, i,
                  quantize_value(x[i], 1.0f / qparams.scale(part), qparams.zero_point(part), qmin, qmax));
  }
}

// Small floats saturate at their largest number; NaN stays NaN.
void quantize_floats(const ops::FloatInput& x, const Qparams& qparams, const MutableTensorView& y) {
  auto max = static_cast<float>(dtype_info(y.dtype).max);
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i) {
    float v = x[i] * (1.0f / qparams.scale(qparams.part(i)));
    if (v > max) v = max;
    if (v < -max) v = -max;
    store_from_double(y.dtype, y.data, i, static_cast<double>(v));
  }
}

Result<Quantization> infer_quantization(const InferContext& c) {
  DType dtype = c.attributes.dtype("dtype");
  bool fits = is_integer(dtype) ? dtype_info(dtype).bits <= 16 : is_float(dtype) && dtype_info(dtype).bits <= 8;
  if (!fits) {
    return error(Code::invalid_model, "dtype is {}, expected an integer of at most 16 bits or a float of at most 8",
                 dtype_name(dtype));
  }
  return ops::infer_qparams(c, dtype);
}

}  // namespace

const OpDef kOpDef_quantize = {
    .op = Op::quantize,
    .name = "quantize",
    .doc =
        "The codes clamp(round_half_even(x * (1 / scale)) + zero_point), by quantize_value of ir/epilogue.h. Scale and "
        "zero point are attributes, or operands with one element for each part that shares them.",
    .inputs = {{{"x"}, {"scale", Arity::optional}, {"zero_point", Arity::optional}}},
    .attributes = {{{"dtype", AttributeKind::dtype, ops::kRequired, "of the codes"},
                    ops::kScale,
                    ops::kZeroPoint,
                    ops::kGranularity,
                    ops::kQuantAxis,
                    ops::kGroup}},
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_float(c.input(0)));
      AOQ_ASSIGN(Quantization quantization, infer_quantization(c));
      return std::vector<Type>{Type{c.attributes.dtype("dtype"), c.input(0).shape, quantization}};
    },
    .reference = [](const EvalContext& c) -> Status {
      AOQ_ASSIGN(Quantization quantization, infer_quantization({c.op, c.types, c.attributes}));
      AOQ_ASSIGN(Qparams qparams, Qparams::read(c, quantization, c.outputs[0].dtype));
      ops::FloatInput x(c.inputs[0]);
      if (is_integer(c.outputs[0].dtype)) {
        quantize_integers(x, qparams, c.outputs[0]);
      } else {
        quantize_floats(x, qparams, c.outputs[0]);
      }
      return {};
    },
};

}  // namespace aoq
