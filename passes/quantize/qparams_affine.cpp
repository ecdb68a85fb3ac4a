// Family 4 of qparam formulas: torchao's choose_qparams_affine and its variants.
#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/quantize/arithmetic.h"
#include "passes/quantize/qparams.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

struct Affine {
  const AffineFormula& f;
  Rounding round;
  float steps;
  float eps;

  explicit Affine(const AffineFormula& formula)
      : f(formula),
        round(formula.arithmetic),
        steps(static_cast<float>(formula.range.max - formula.range.min)),
        eps(round(formula.eps)) {}

  float symmetric_scale(float lo, float hi) const {
    if (f.mapping == MappingType::symmetric) return round(std::max(-lo, hi) / (steps / 2));
    const float from_min = round(lo / static_cast<float>(f.range.min));
    const float from_max = round(hi / static_cast<float>(f.range.max));
    return from_min > from_max ? from_min : from_max;
  }

  // A power of two is a number of every arithmetic.
  float at_least_eps(float scale) const {
    const float s = torch_math::max(scale, eps);
    return f.power_of_two_scale ? power_of_two_not_below(s) : s;
  }

  void add_symmetric(float lo, float hi, QParams& q) const {
    q.scale.push_back(at_least_eps(symmetric_scale(lo, hi)));
    q.zero_point.push_back((f.range.max + f.range.min + 1) / 2);
  }

  void add_asymmetric(float lo, float hi, QParams& q) const {
    const float scale = at_least_eps(round(round(hi - lo) / steps));
    const float quotient = std::nearbyintf(round(lo / scale));
    const float zero_point = round(static_cast<float>(f.range.min) - quotient);
    const float clamped = std::clamp(zero_point, static_cast<float>(f.range.min), static_cast<float>(f.range.max));
    q.scale.push_back(scale);
    q.zero_point.push_back(static_cast<std::int64_t>(clamped));
  }

  void add_tinygemm(float lo, float hi, QParams& q) const {
    const float scale = at_least_eps(round(round(hi - lo) / steps));
    const float middle = static_cast<float>(static_cast<double>(f.range.max + f.range.min + 1) / 2);
    q.scale.push_back(scale);
    q.float_zero_point.push_back(round(lo + round(scale * middle)));
  }
};

Status check(const AffineFormula& f, std::span<const float> min, std::span<const float> max) {
  if (min.size() != max.size()) return error(Code::invalid_data, "{} minima for {} maxima", min.size(), max.size());
  if (f.range.min >= f.range.max) return error(Code::invalid_argument, "quant_min is not below quant_max");
  const bool divides_by_limits = f.mapping == MappingType::symmetric_no_clipping_error;
  if (divides_by_limits && (f.range.min == 0 || f.range.max == 0)) {
    return error(Code::invalid_argument, "symmetric_no_clipping_error needs a range with both signs");
  }
  for (std::size_t i = 0; i < min.size(); ++i) {
    if (!(min[i] <= max[i]))
      return error(Code::invalid_data, "range [{}, {}]: the minimum exceeds the maximum", min[i], max[i]);
  }
  return {};
}

QParams empty_qparams(const AffineFormula& f) {
  QParams q;
  q.dtype = f.dtype;
  q.range = f.range;
  return q;
}

}  // namespace

Result<QParams> choose_qparams_affine_with_min_max(const AffineFormula& f, std::span<const float> min,
                                                   std::span<const float> max) {
  AOQ_TRY(check(f, min, max));
  if (!f.preserve_zero && f.mapping != MappingType::asymmetric) {
    return error(Code::invalid_argument, "only the asymmetric mapping may give up zero");
  }
  QParams q = empty_qparams(f);
  const Affine affine(f);
  for (std::size_t i = 0; i < min.size(); ++i) {
    const float lo = f.preserve_zero ? std::min(min[i], 0.0f) : min[i];
    const float hi = f.preserve_zero ? std::max(max[i], 0.0f) : max[i];
    if (f.mapping == MappingType::asymmetric) {
      affine.add_asymmetric(lo, hi, q);
    } else {
      affine.add_symmetric(lo, hi, q);
    }
  }
  return q;
}

Result<QParams> choose_qparams_affine(const AffineFormula& formula, TensorView x,
                                      std::span<const std::int64_t> block_size) {
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape, block_size));
  AOQ_ASSIGN(const BlockRanges ranges, block_ranges(x, blocks));
  AffineFormula f = formula;
  f.arithmetic = x.dtype;
  return choose_qparams_affine_with_min_max(f, ranges.min, ranges.max);
}

Result<QParams> choose_qparams_tinygemm(const AffineFormula& formula, TensorView x,
                                        std::span<const std::int64_t> block_size) {
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape, block_size));
  AOQ_ASSIGN(const BlockRanges ranges, block_ranges(x, blocks));
  AffineFormula f = formula;
  f.arithmetic = x.dtype;
  AOQ_TRY(check(f, ranges.min, ranges.max));
  QParams q = empty_qparams(f);
  const Affine affine(f);
  for (std::size_t i = 0; i < ranges.min.size(); ++i) affine.add_tinygemm(ranges.min[i], ranges.max[i], q);
  return q;
}

float machine_epsilon(DType dtype) {
  return std::ldexp(1.0f, -dtype_info(dtype).mantissa_bits);
}

Result<BlockRanges> block_ranges(TensorView x, const Blocks& blocks) {
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (values.empty()) return error(Code::invalid_data, "a tensor without elements has no range");
  BlockRanges r;
  r.min.assign(static_cast<std::size_t>(blocks.count()), kInfinity);
  r.max.assign(static_cast<std::size_t>(blocks.count()), -kInfinity);
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    const torch_math::Range run =
        torch_math::aminmax(std::span(values).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size)));
    r.min[block] = torch_math::min(r.min[block], run.min);
    r.max[block] = torch_math::max(r.max[block], run.max);
  });
  return r;
}

}  // namespace aoq
