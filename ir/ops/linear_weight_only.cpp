#include <algorithm>

#include "ir/ops/fma.h"
#include "ir/ops/narrow_linear.h"

namespace aoq {

namespace {

using ops::kNarrowBias, ops::kNarrowScale, ops::kNarrowWeight, ops::kNarrowX, ops::kNarrowZeroPoint;

// [groups or depth, columns] of a tensor [columns, groups or depth], as floats.
std::vector<float> transposed(const TensorView& tensor, std::int32_t centre) {
  const std::int64_t columns = tensor.shape[0], depth = tensor.shape[1];
  const ops::FloatInput plain(tensor);
  std::vector<float> out(static_cast<std::size_t>(columns * depth));
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t k = 0; k < depth; ++k) {
      out[static_cast<std::size_t>(k * columns + j)] = plain[j * depth + k] - static_cast<float>(centre);
    }
  }
  return out;
}

float sum_of(const float* x, std::int64_t n) {
  float t = x[0];
  for (std::int64_t k = 1; k < n; ++k) t = t + x[k];
  return t;
}

// The operands by column, so that the columns of a row are computed side by side.
struct Operands {
  ops::NarrowLinearSizes sizes;
  std::vector<float> codes, scales, zeros;
  std::vector<std::int32_t> zero_points;
  bool has_integer_zeros = false, has_float_zeros = false;

  explicit Operands(const EvalContext& c) : sizes(c) {
    codes = transposed(c.inputs[kNarrowWeight], code_centre(c.inputs[kNarrowWeight].dtype));
    scales = transposed(c.inputs[kNarrowScale], 0);
    if (!c.has(kNarrowZeroPoint)) return;
    has_float_zeros = is_float(c.inputs[kNarrowZeroPoint].dtype);
    has_integer_zeros = !has_float_zeros;
    if (has_float_zeros) zeros = transposed(c.inputs[kNarrowZeroPoint], 0);
    if (has_integer_zeros) zero_points = ops::centred_zero_points(c, sizes);
  }

  // One row: y[columns] from +0, s[columns] is spare room.
  void accumulate(const float* x, float* y, float* s) const {
    const std::int64_t n = sizes.columns;
    for (std::int64_t g = 0; g < sizes.groups; ++g) {
      const std::int64_t begin = sizes.group_begin(g), end = sizes.group_end(g);
      const float t = has_integer_zeros || has_float_zeros ? sum_of(x + begin, end - begin) : 0.0f;
      for (std::int64_t j = 0; j < n; ++j) {
        s[j] = has_integer_zeros ? static_cast<float>(-zero_points[static_cast<std::size_t>(j * sizes.groups + g)]) * t
                                 : 0.0f;
      }
      for (std::int64_t k = begin; k < end; ++k) ops::fma_accumulate(x[k], codes.data() + k * n, s, n);
      for (std::int64_t j = 0; j < n; ++j) {
        const auto at = static_cast<std::size_t>(g * n + j);
        y[j] = std::fma(s[j], scales[at], y[j]);
        if (has_float_zeros) y[j] = std::fma(t, zeros[at], y[j]);
      }
    }
  }
};

Status reference(const EvalContext& c) {
  const Operands operands(c);
  const ops::NarrowLinearSizes& sizes = operands.sizes;
  const auto* x = reinterpret_cast<const float*>(c.inputs[kNarrowX].data);
  auto* y = reinterpret_cast<float*>(c.outputs[0].data);
  std::vector<float> s(static_cast<std::size_t>(sizes.columns));
  for (std::int64_t r = 0; r < sizes.rows; ++r) {
    float* out = y + r * sizes.columns;
    std::fill_n(out, sizes.columns, 0.0f);
    operands.accumulate(x + r * sizes.depth, out, s.data());
    if (!c.has(kNarrowBias)) continue;
    const auto* bias = reinterpret_cast<const float*>(c.inputs[kNarrowBias].data);
    for (std::int64_t j = 0; j < sizes.columns; ++j) out[j] = out[j] + bias[j];
  }
  return {};
}

}  // namespace

const OpDef kOpDef_linear_weight_only = {
    .op = Op::linear_weight_only,
    .name = "linear_weight_only",
    .doc =
        "linear on f32 x with a weight of narrow codes that is read packed: x * real^T + bias in the order of "
        "ir/narrow_linear.h. real is (code - zero_point) * scale with integer zero points (i8 for signed codes, u8 for "
        "unsigned ones), and (code - 2^(bits - 1)) * scale + zero_point with float ones; unsigned codes without zero "
        "points have 2^(bits - 1) for zero. Scale and zero_point are [N, ceil(K / group)].",
    .inputs = {{{"x"}, {"weight"}, {"scale"}, {"zero_point", Arity::optional}, {"bias", Arity::optional}}},
    .attributes = {{ops::kWeightGroup}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_narrow_linear(c, ops::FloatZeroPoints::yes));
      return ops::one_result(DType::f32, std::move(shape));
    },
    .reference = reference,
};

}  // namespace aoq
