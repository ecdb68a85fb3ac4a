#include "ir/ops/common.h"

namespace aoq {

namespace {

// Truncates towards zero, saturates, takes NaN as 0.
std::int64_t truncate(double value, DType to) {
  if (std::isnan(value)) return 0;
  value = std::trunc(value);
  if (to == DType::u64) {
    if (value <= 0) return 0;
    return value >= 0x1p64 ? -1 : static_cast<std::int64_t>(static_cast<std::uint64_t>(value));
  }
  if (value <= dtype_info(to).min) return static_cast<std::int64_t>(dtype_info(to).min);
  if (value >= dtype_info(to).max) return to == DType::i64 ? INT64_MAX : static_cast<std::int64_t>(dtype_info(to).max);
  return static_cast<std::int64_t>(value);
}

bool has_integers(DType d) {
  return is_integer(d) || d == DType::boolean;
}

void cast_element(const TensorView& x, const MutableTensorView& y, std::int64_t i) {
  if (!has_integers(x.dtype)) {
    double v = load_as_double(x.dtype, x.data, i);
    if (y.dtype == DType::boolean) return store_integer(y.dtype, y.data, i, v != 0.0);
    if (is_integer(y.dtype)) return store_integer(y.dtype, y.data, i, truncate(v, y.dtype));
    return store_from_double(y.dtype, y.data, i, v);
  }
  if (has_integers(y.dtype)) return store_integer(y.dtype, y.data, i, load_integer(x.dtype, x.data, i));
  // Straight to f32: 64-bit integers must not be rounded twice.
  if (y.dtype == DType::f32) {
    std::int64_t v = load_integer(x.dtype, x.data, i);
    float f = x.dtype == DType::u64 ? static_cast<float>(static_cast<std::uint64_t>(v)) : static_cast<float>(v);
    return store_from_double(y.dtype, y.data, i, static_cast<double>(f));
  }
  store_from_double(y.dtype, y.data, i, load_as_double(x.dtype, x.data, i));
}

}  // namespace

const OpDef kOpDef_cast = {
    .op = Op::cast,
    .name = "cast",
    .doc =
        "x as another element type. Floats become integers by truncation, with NaN as 0 and values out of range "
        "saturated; integers keep their low bits; boolean is true for everything but 0.",
    .inputs = {{{"x"}}},
    .attributes = {{{"dtype", AttributeKind::dtype, ops::kRequired, "of the result"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require(!c.input(0).quantization, c.input(0), "a type that is not quantized"));
      return ops::one_result(c.attributes.dtype("dtype"), c.input(0).shape);
    },
    .reference = [](const EvalContext& c) -> Status {
      for (std::int64_t i = 0, n = c.outputs[0].element_count(); i < n; ++i) cast_element(c.inputs[0], c.outputs[0], i);
      return {};
    },
};

}  // namespace aoq
