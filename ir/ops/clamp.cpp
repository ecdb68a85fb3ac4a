#include <algorithm>

#include "ir/epilogue.h"
#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

namespace {

// A real bound as the nearest 64-bit integer, saturated.
std::int64_t integer_bound(double bound) {
  if (bound >= 0x1p63) return INT64_MAX;
  if (bound <= -0x1p63) return INT64_MIN;
  return static_cast<std::int64_t>(bound);
}

Status clamp_integers(const EvalContext& c, std::int64_t lo, std::int64_t hi) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  bool large = x.dtype == DType::u64;  // values at or above 2^63 read as negative
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i) {
    std::int64_t v = load_integer(x.dtype, x.data, i);
    if (large && v < 0) {
      if (hi == INT64_MAX) {
        store_integer(y.dtype, y.data, i, v);
        continue;
      }
      v = INT64_MAX;
    }
    store_integer(y.dtype, y.data, i, std::min(std::max(v, lo), hi));
  }
  return {};
}

Status reference(const EvalContext& c) {
  double lo = c.attributes.real("min");
  double hi = c.attributes.real("max");
  DType dtype = c.inputs[0].dtype;
  if (const Quantization* q = c.quantization(0)) {
    auto qmin = static_cast<std::int32_t>(dtype_info(dtype).min);
    auto qmax = static_cast<std::int32_t>(dtype_info(dtype).max);
    auto code = [&](double bound) {
      return quantize_value(static_cast<float>(bound), 1.0f / q->scale, q->zero_point, qmin, qmax);
    };
    return clamp_integers(c, code(lo), code(hi));
  }
  if (is_integer(dtype)) {
    // Bounds of the type first, so that the result can be stored.
    lo = std::clamp(std::ceil(lo), dtype_info(dtype).min, dtype_info(dtype).max);
    hi = std::clamp(std::floor(hi), dtype_info(dtype).min, dtype_info(dtype).max);
    return clamp_integers(c, integer_bound(lo), integer_bound(hi));
  }
  ops::Parameters p{static_cast<float>(lo), static_cast<float>(hi)};
  return ops::unary_float(c, p, [](float x, ops::Parameters b) { return math::clamp(x, b.a, b.b); });
}

}  // namespace

const OpDef kOpDef_clamp = {
    .op = Op::clamp,
    .name = "clamp",
    .doc = "x limited to [min, max]: min first, then max; NaN stays NaN.",
    .inputs = {{{"x"}}},
    .attributes = {{{"min", AttributeKind::real, "-inf", "the lowest result"},
                    {"max", AttributeKind::real, "inf", "the highest result"}}},
    .traits = kElementwise,
    .rule = QuantRule::same_scale,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      for (const char* name : {"min", "max"}) {
        if (std::isnan(c.attributes.real(name)))
          return error(Code::invalid_model, "{} is NaN, expected a number", name);
      }
      if (c.input(0).quantization) {
        AOQ_TRY(ops::require(is_integer(c.input(0).dtype) && dtype_info(c.input(0).dtype).bits <= 16, c.input(0),
                             "codes of at most 16 bits"));
      }
      return ops::infer_same_scale(c);
    },
    .reference = reference,
};

}  // namespace aoq
