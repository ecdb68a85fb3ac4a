#include "ir/ops/narrow_linear.h"

#include <array>

#include "ir/ops/linear.h"

namespace aoq::ops {

namespace {

Status check_types(const NarrowOperands& operands, FloatZeroPoints float_zero_points) {
  const Type& weight = operands.codes;
  const DTypeInfo& info = dtype_info(weight.dtype);
  const bool may_be_float = float_zero_points == FloatZeroPoints::yes;
  const bool is_code = (is_integer(weight.dtype) || (may_be_float && is_float(weight.dtype))) && info.bits <= 8;
  AOQ_TRY(require(
      is_code, weight,
      may_be_float ? "a weight of integers or floats of at most 8 bits" : "a weight of integers of at most 8 bits"));
  const Type& scale = operands.scale;
  const bool is_scale = (is_float(scale.dtype) && dtype_info(scale.dtype).bits <= 32) || scale.dtype == DType::f8_e8m0;
  AOQ_TRY(require(is_scale, scale, "a scale of at most 32 bits"));
  if (operands.zero_point == nullptr) return {};
  const Type& zero_point = *operands.zero_point;
  if (!is_integer(weight.dtype)) {
    return error(Code::invalid_model, "the weight is {} and has a zero_point, expected none with float codes",
                 to_string(weight));
  }
  const DType matching = info.kind == DTypeKind::signed_integer ? DType::i8 : DType::u8;
  const bool is_float_form = may_be_float && is_float(zero_point.dtype) && dtype_info(zero_point.dtype).bits <= 32;
  return require(zero_point.dtype == matching || is_float_form, zero_point,
                 fmt::format("{}{} zero points", dtype_name(matching), may_be_float ? " or float" : ""));
}

}  // namespace

Status check_narrow(const NarrowOperands& operands, std::int64_t group, FloatZeroPoints float_zero_points) {
  AOQ_TRY(check_types(operands, float_zero_points));
  AOQ_TRY(require_rank(operands.codes, 2, 2));
  AOQ_TRY(require_range("group", group, 1, std::int64_t{1} << 31));
  const std::vector<Dim>& shape = operands.codes.shape;
  const std::vector<Dim> parts{shape[0], ceil_div(shape[1], Dim(group))};
  AOQ_TRY(require_shape("scale", operands.scale, parts));
  return operands.zero_point == nullptr ? Status() : require_shape("zero_point", *operands.zero_point, parts);
}

Result<std::vector<Dim>> infer_narrow_linear(const InferContext& c, FloatZeroPoints float_zero_points) {
  AOQ_TRY(require(c.input(kNarrowX).dtype == DType::f32, c.input(kNarrowX), "f32"));
  const NarrowOperands operands{c.input(kNarrowWeight), c.input(kNarrowScale),
                                c.has(kNarrowZeroPoint) ? c.inputs[kNarrowZeroPoint] : nullptr};
  AOQ_TRY(check_narrow(operands, c.attributes.integer("group"), float_zero_points));
  const std::array<const Type*, 3> shaped = {c.inputs[kNarrowX], c.inputs[kNarrowWeight],
                                             c.has(kNarrowBias) ? c.inputs[kNarrowBias] : nullptr};
  if (c.has(kNarrowBias)) AOQ_TRY(require(shaped[2]->dtype == DType::f32, *shaped[2], "an f32 bias"));
  return infer_linear_shape({c.op, shaped, c.attributes});
}

NarrowLinearSizes::NarrowLinearSizes(const EvalContext& c) {
  const TensorView& x = c.inputs[kNarrowX];
  rows = count(x.shape, 0, x.shape.size() - 1);
  columns = c.inputs[kNarrowWeight].shape[0];
  depth = c.inputs[kNarrowWeight].shape[1];
  group = c.attributes.integer("group");
  groups = c.inputs[kNarrowScale].shape[1];
}

std::vector<std::int32_t> centred_zero_points(const EvalContext& c, const NarrowLinearSizes& sizes) {
  std::vector<std::int32_t> z(static_cast<std::size_t>(sizes.columns * sizes.groups), 0);
  if (!c.has(kNarrowZeroPoint)) return z;
  const TensorView& zero_point = c.inputs[kNarrowZeroPoint];
  const std::int32_t centre = code_centre(c.inputs[kNarrowWeight].dtype);
  for (std::size_t i = 0; i < z.size(); ++i) {
    const std::int64_t point = load_integer(zero_point.dtype, zero_point.data, static_cast<std::int64_t>(i));
    z[i] = static_cast<std::int32_t>(point) - centre;
  }
  return z;
}

std::vector<std::int16_t> centred_codes(const EvalContext& c, const NarrowLinearSizes& sizes,
                                        std::span<const std::int32_t> z) {
  const TensorView& weight = c.inputs[kNarrowWeight];
  const std::int32_t centre = code_centre(weight.dtype);
  std::vector<std::int16_t> codes(static_cast<std::size_t>(sizes.columns * sizes.depth));
  for (std::int64_t i = 0; i < sizes.columns * sizes.depth; ++i) {
    const std::int64_t part = i / sizes.depth * sizes.groups + i % sizes.depth / sizes.group;
    codes[static_cast<std::size_t>(i)] = static_cast<std::int16_t>(load_integer(weight.dtype, weight.data, i) - centre -
                                                                   z[static_cast<std::size_t>(part)]);
  }
  return codes;
}

}  // namespace aoq::ops
