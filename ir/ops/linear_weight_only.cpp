#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "ir/ops/fma.h"
#include "ir/ops/lowered.h"
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

// The chains of f32: the operands by column, so that the columns of a row are computed side by side.
class FloatChains {
 public:
  explicit FloatChains(const EvalContext& c) : sizes_(c), sums_(static_cast<std::size_t>(sizes_.columns)) {
    codes_ = transposed(c.inputs[kNarrowWeight], code_centre(c.inputs[kNarrowWeight].dtype));
    scales_ = transposed(c.inputs[kNarrowScale], 0);
    if (!c.has(kNarrowZeroPoint)) return;
    has_float_zeros_ = is_float(c.inputs[kNarrowZeroPoint].dtype);
    has_integer_zeros_ = !has_float_zeros_;
    if (has_float_zeros_) zeros_ = transposed(c.inputs[kNarrowZeroPoint], 0);
    if (has_integer_zeros_) zero_points_ = ops::centred_zero_points(c, sizes_);
  }

  // One row: y[columns] from +0.
  void accumulate(const float* x, float* y) {
    const std::int64_t n = sizes_.columns;
    float* s = sums_.data();
    for (std::int64_t g = 0; g < sizes_.groups; ++g) {
      const std::int64_t begin = sizes_.group_begin(g), end = sizes_.group_end(g);
      const float t = has_integer_zeros_ || has_float_zeros_ ? sum_of(x + begin, end - begin) : 0.0f;
      for (std::int64_t j = 0; j < n; ++j) {
        s[j] = has_integer_zeros_
                   ? static_cast<float>(-zero_points_[static_cast<std::size_t>(j * sizes_.groups + g)]) * t
                   : 0.0f;
      }
      for (std::int64_t k = begin; k < end; ++k) ops::fma_accumulate(x[k], codes_.data() + k * n, s, n);
      for (std::int64_t j = 0; j < n; ++j) {
        const auto at = static_cast<std::size_t>(g * n + j);
        y[j] = std::fma(s[j], scales_[at], y[j]);
        if (has_float_zeros_) y[j] = std::fma(t, zeros_[at], y[j]);
      }
    }
  }

 private:
  ops::NarrowLinearSizes sizes_;
  std::vector<float> codes_, scales_, zeros_, sums_;
  std::vector<std::int32_t> zero_points_;
  bool has_integer_zeros_ = false, has_float_zeros_ = false;
};

// Block fixed point.
class FixedPoint {
 public:
  explicit FixedPoint(const EvalContext& c) : sizes_(c) {
    const bool has_float_zeros = c.has(kNarrowZeroPoint) && is_float(c.inputs[kNarrowZeroPoint].dtype);
    const std::vector<std::int32_t> none(static_cast<std::size_t>(sizes_.columns * sizes_.groups), 0);
    codes_ = ops::centred_codes(c, sizes_, has_float_zeros ? none : ops::centred_zero_points(c, sizes_));
    scales_ = transposed(c.inputs[kNarrowScale], 0);
    if (has_float_zeros) zeros_ = transposed(c.inputs[kNarrowZeroPoint], 0);
    for (std::vector<std::int16_t>& digits : digits_) digits.resize(static_cast<std::size_t>(sizes_.depth));
  }

  // One row: y[columns] from +0.
  void accumulate(const float* x, float* y) {
    for (std::int64_t g = 0; g < sizes_.groups; ++g) {
      const std::int64_t begin = sizes_.group_begin(g), end = sizes_.group_end(g);
      for (std::int64_t b = begin; b < end; b += kFixedPointBlock) {
        add_block(x, b, std::min(b + kFixedPointBlock, end), g, y);
      }
      if (zeros_.empty()) continue;
      const float t = sum_of(x + begin, end - begin);
      const float* zeros = zeros_.data() + g * sizes_.columns;
      for (std::int64_t j = 0; j < sizes_.columns; ++j) y[j] = std::fma(t, zeros[j], y[j]);
    }
  }

 private:
  void add_block(const float* x, std::int64_t begin, std::int64_t end, std::int64_t g, float* y) {
    const float unit = split(x, begin, end);
    const float* scales = scales_.data() + g * sizes_.columns;
    for (std::int64_t j = 0; j < sizes_.columns; ++j) y[j] = std::fma(sum(j, begin, end) * unit, scales[j], y[j]);
  }

  // The digits of a block; its unit.
  float split(const float* x, std::int64_t begin, std::int64_t end) {
    std::uint32_t max = 0;  // of the bits, where NaN is the largest
    for (std::int64_t k = begin; k < end; ++k) max = std::max(max, std::bit_cast<std::uint32_t>(x[k]) & 0x7fffffffu);
    const FixedPointUnit unit = fixed_point_unit(std::bit_cast<float>(max));
    for (std::int64_t k = begin; k < end; ++k) {
      const bool is_finite = unit.inverse > 0;
      const auto fixed = static_cast<std::int32_t>(is_finite ? std::nearbyint(x[k] * unit.inverse) : 0.0f);
      for (int i = 0; i < 3; ++i) {
        digits_[i][static_cast<std::size_t>(k)] = static_cast<std::int16_t>(fixed_point_digit(fixed, i));
      }
    }
    return unit.unit;
  }

  // s of column j.
  float sum(std::int64_t j, std::int64_t begin, std::int64_t end) const {
    std::int32_t sums[3];
    for (int i = 0; i < 3; ++i) {
      sums[i] = ops::integer_dot(digits_[i].data() + begin, codes_.data() + j * sizes_.depth + begin, end - begin);
    }
    return std::fma(static_cast<float>(sums[2]), 65536.0f, static_cast<float>(256 * sums[1] + sums[0]));
  }

  ops::NarrowLinearSizes sizes_;
  std::vector<std::int16_t> codes_;
  std::array<std::vector<std::int16_t>, 3> digits_;
  std::vector<float> scales_, zeros_;
};

template <typename Product>
void multiply(const EvalContext& c, Product product) {
  const ops::NarrowLinearSizes sizes(c);
  const auto* x = reinterpret_cast<const float*>(c.inputs[kNarrowX].data);
  const auto* bias = reinterpret_cast<const float*>(c.has(kNarrowBias) ? c.inputs[kNarrowBias].data : nullptr);
  auto* out = reinterpret_cast<float*>(c.outputs[0].data);
  for (std::int64_t r = 0; r < sizes.rows; ++r, out += sizes.columns) {
    std::fill_n(out, sizes.columns, 0.0f);
    product.accumulate(x + r * sizes.depth, out);
    for (std::int64_t j = 0; bias != nullptr && j < sizes.columns; ++j) out[j] = out[j] + bias[j];
  }
}

Status reference(const EvalContext& c) {
  if (is_fixed_point(c.inputs[kNarrowWeight].dtype)) {
    multiply(c, FixedPoint(c));
  } else {
    multiply(c, FloatChains(c));
  }
  return {};
}

}  // namespace

const OpDef kOpDef_linear_weight_only = {
    .op = Op::linear_weight_only,
    .name = "linear_weight_only",
    .doc =
        "linear on f32 x with a weight of narrow codes that is read packed: x * real^T + bias in the arithmetic "
        "of ir/narrow_linear.h: block fixed point of 24 bits with integer codes of at most 4 bits, else f32. real is "
        "(code - zero_point) * scale with integer zero points (i8 for signed codes, u8 for "
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
