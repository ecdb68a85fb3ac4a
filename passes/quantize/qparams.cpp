#include "passes/quantize/qparams.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

std::int64_t floor_half(std::int64_t v) {
  return v >> 1;
}

bool is_symmetric(QScheme s) {
  return s == QScheme::per_tensor_symmetric || s == QScheme::per_channel_symmetric;
}

// The zero point of a symmetric scheme: the middle of an unsigned type.
std::int64_t symmetric_zero_point(const ObserverFormula& f) {
  if (f.dtype == DType::u8) return f.has_custom_range ? floor_half(f.range.min + f.range.max) : 128;
  return f.dtype == DType::u16 ? 32768 : 0;
}

struct FloatQParams {
  float scale;
  std::int64_t zero_point;
};

float rounded_scale(const ObserverFormula& f, float scale) {
  return f.power_of_two_scale ? power_of_two_not_below(scale) : scale;
}

FloatQParams symmetric_qparams(const ObserverFormula& f, float lo, float hi) {
  const float magnitude = torch_math::max(-lo, hi);
  const float half_range = static_cast<float>(static_cast<double>(f.range.max - f.range.min) / 2);
  return {rounded_scale(f, torch_math::max(magnitude / half_range, f.eps)), symmetric_zero_point(f)};
}

// The zero point is int32 arithmetic, which wraps around for 32-bit types.
std::int64_t wrapped_zero_point(QRange range, float quotient) {
  const std::int32_t rounded = torch_math::to_int32(std::nearbyintf(quotient));
  const std::uint32_t difference = static_cast<std::uint32_t>(range.min) - static_cast<std::uint32_t>(rounded);
  return std::clamp<std::int64_t>(static_cast<std::int32_t>(difference), range.min, range.max);
}

FloatQParams affine_qparams(const ObserverFormula& f, float lo, float hi) {
  const float scale =
      rounded_scale(f, torch_math::max((hi - lo) / static_cast<float>(f.range.max - f.range.min), f.eps));
  return {scale, wrapped_zero_point(f.range, lo / scale)};
}

Status check_ranges(std::span<const float> min, std::span<const float> max) {
  if (min.size() != max.size()) return error(Code::invalid_data, "{} minima for {} maxima", min.size(), max.size());
  for (std::size_t i = 0; i < min.size(); ++i) {
    if (!(min[i] <= max[i]))
      return error(Code::invalid_data, "range [{}, {}]: the minimum exceeds the maximum", min[i], max[i]);
  }
  return {};
}

bool is_unseen(std::span<const float> min, std::span<const float> max) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return min.empty() || max.empty() || (min.size() == 1 && min[0] == kInfinity && max[0] == -kInfinity);
}

}  // namespace

float power_of_two_not_below(float scale) {
  int exponent = 0;
  const float fraction = std::frexp(scale, &exponent);
  return fraction == 0.5f || !(scale > 0) || std::isinf(scale) ? scale : std::ldexp(1.0f, exponent);
}

Result<QRange> observer_qrange(const QRangeRequest& request) {
  const DTypeInfo& info = dtype_info(request.dtype);
  const bool is_reduced = request.reduce == ReduceRange::yes;
  if (is_float(request.dtype) && info.bits >= 16) {
    return error(Code::invalid_argument, "{} is no type to quantize to: it has no codes; placeholder and noop carry it",
                 info.name);
  }
  if (!request.min && !request.max) {
    if (!is_integer(request.dtype) || info.bits > 32) {
      return error(Code::invalid_argument, "{} is no type to quantize to", info.name);
    }
    const QRange whole{static_cast<std::int64_t>(info.min), static_cast<std::int64_t>(info.max)};
    if (!is_reduced || info.bits != 8) return whole;
    return QRange{floor_half(whole.min), floor_half(whole.max)};
  }
  if (!request.min || !request.max || *request.min >= *request.max) {
    return error(Code::invalid_argument, "a custom range needs quant_min below quant_max");
  }
  if (request.must_hold_zero && (*request.min > 0 || *request.max < 0)) {
    return error(Code::invalid_argument, "the range [{}, {}] leaves out zero", *request.min, *request.max);
  }
  if (!is_reduced) return QRange{*request.min, *request.max};
  return QRange{floor_half(*request.min), floor_half(*request.max)};
}

Result<QParams> observer_qparams(const ObserverFormula& f, std::span<const float> min, std::span<const float> max) {
  QParams q;
  q.dtype = f.dtype;
  q.range = f.range;
  const bool has_float_zero_point = f.qscheme == QScheme::per_channel_affine_float_qparams;
  if (is_unseen(min, max)) {
    q.scale = {1.0f};
    q.zero_point = {0};
    return q;
  }
  AOQ_TRY(check_ranges(min, max));
  for (std::size_t i = 0; i < min.size(); ++i) {
    if (has_float_zero_point) {
      const float width = (max[i] - min[i]) / static_cast<float>(f.range.max - f.range.min);
      const float scale = rounded_scale(f, width > f.eps ? width : 1.0f);
      q.scale.push_back(scale);
      q.float_zero_point.push_back(-min[i] / scale);
      continue;
    }
    const float lo = torch_math::min(min[i], 0.0f), hi = torch_math::max(max[i], 0.0f);
    const FloatQParams one = is_symmetric(f.qscheme) ? symmetric_qparams(f, lo, hi) : affine_qparams(f, lo, hi);
    q.scale.push_back(one.scale);
    q.zero_point.push_back(one.zero_point);
  }
  return q;
}

Result<TensorQParams> decomposed_choose_qparams(TensorView x, QRange range, double eps) {
  if (x.dtype != DType::f32 || x.element_count() == 0)
    return error(Code::invalid_data, "choose_qparams needs f32 elements");
  const float* data = reinterpret_cast<const float*>(x.data);
  const torch_math::Range r = torch_math::aminmax({data, static_cast<std::size_t>(x.element_count())});
  if (std::isnan(r.min)) return error(Code::invalid_data, "choose_qparams: NaN");
  const ObserverFormula f{.range = range, .eps = static_cast<float>(eps)};
  const FloatQParams q = affine_qparams(f, std::min(r.min, 0.0f), std::max(r.max, 0.0f));
  return TensorQParams{q.scale, q.zero_point};
}

Result<TensorQParams> decomposed_choose_qparams_symmetric(TensorView x, DType dtype, QRange range, double eps) {
  if (x.dtype != DType::f32 || x.element_count() == 0)
    return error(Code::invalid_data, "choose_qparams needs f32 elements");
  const float* data = reinterpret_cast<const float*>(x.data);
  const torch_math::Range r = torch_math::aminmax({data, static_cast<std::size_t>(x.element_count())});
  if (std::isnan(r.min)) return error(Code::invalid_data, "choose_qparams: NaN");
  const ObserverFormula f{
      .qscheme = QScheme::per_tensor_symmetric, .dtype = dtype, .range = range, .eps = static_cast<float>(eps)};
  const FloatQParams q = symmetric_qparams(f, std::min(r.min, 0.0f), std::max(r.max, 0.0f));
  return TensorQParams{q.scale, q.zero_point};
}

}  // namespace aoq
