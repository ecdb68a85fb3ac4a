// Families 2 and 3 of qparam formulas: what is computed from a tensor at run time.
#include <algorithm>
#include <cmath>

#include "passes/quantize/arithmetic.h"
#include "passes/quantize/qparams.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

double round_to_power_of_two(double scale) {
  if (scale < 1) return std::ldexp(1.0, -static_cast<int>(std::floor(std::log2(1.0 / scale))));
  return std::ldexp(1.0, static_cast<int>(std::ceil(std::log2(scale))));
}

struct Rows {
  std::vector<float> values;
  std::size_t length = 0;
  std::span<const float> row(std::size_t i) const { return std::span(values).subspan(i * length, length); }
  std::size_t count() const { return values.size() / length; }
};

Result<Rows> rows_of(TensorView x) {
  if (x.shape.empty() || x.element_count() == 0)
    return error(Code::invalid_data, "choose_qparams_per_token: no elements");
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  return Rows{std::move(values), static_cast<std::size_t>(x.shape.back())};
}

}  // namespace

TensorQParams choose_quantization_params(float min, float max, const ChooseQuantizationOptions& options) {
  constexpr float kSmallScale = 6.1e-5f;
  std::int64_t qmin = options.range.min, qmax = options.range.max;
  if (options.reduce == ReduceRange::yes) {
    qmin /= 2;
    qmax /= 2;
  }
  const bool is_sparse = options.preserve_sparsity && min < 0 && max > 0;
  if (is_sparse) {
    const std::int64_t symmetric_qmin = -((qmax - qmin) / 2 + 1), symmetric_qmax = (qmax - qmin) / 2;
    const double scale = std::max(std::fabs(min / static_cast<double>(symmetric_qmin)),
                                  std::fabs(max / static_cast<double>(symmetric_qmax)));
    min = static_cast<float>(scale * static_cast<double>(symmetric_qmin));
    max = static_cast<float>(scale * static_cast<double>(symmetric_qmax));
  }
  min = std::min(min, 0.0f);
  max = std::max(max, 0.0f);
  const double steps = static_cast<double>(qmax - qmin);
  double scale = (static_cast<double>(max) - min) / steps;
  if (static_cast<float>(scale) == 0.0f || std::isinf(1.0f / static_cast<float>(scale))) scale = 0.1;
  if (options.force_power_of_two) scale = round_to_power_of_two(scale);
  if (scale < kSmallScale) {
    const float original = static_cast<float>(scale);
    scale = kSmallScale;
    if (min == 0.0f) {
      max = kSmallScale * static_cast<float>(steps);
    } else if (max == 0.0f) {
      min = -kSmallScale * static_cast<float>(steps);
    } else {
      const float amplifier = kSmallScale / original;
      min *= amplifier;
      max *= amplifier;
    }
  }
  const double from_min = static_cast<double>(qmin) - min / scale;
  const double from_max = static_cast<double>(qmax) - max / scale;
  const double min_error = std::fabs(static_cast<double>(qmin)) - std::fabs(min / scale);
  const double max_error = std::fabs(static_cast<double>(qmax)) - std::fabs(max / scale);
  double zero_point = min_error < max_error ? from_min : from_max;
  if (is_sparse) zero_point = static_cast<double>((qmin + qmax) / 2);
  if (zero_point < static_cast<double>(qmin)) return {scale, qmin};
  if (zero_point > static_cast<double>(qmax)) return {scale, qmax};
  return {scale, static_cast<std::int64_t>(std::nearbyint(zero_point))};
}

Result<TokenQParams> decomposed_choose_qparams_per_token(TensorView x) {
  AOQ_ASSIGN(const Rows rows, rows_of(x));
  TokenQParams q;
  for (std::size_t i = 0; i < rows.count(); ++i) {
    float amax = 0;
    for (float v : rows.row(i)) amax = torch_math::max(amax, std::fabs(v));
    if (std::isnan(amax)) return error(Code::invalid_data, "choose_qparams_per_token: NaN");
    q.scale.push_back(std::max(amax, 1e-5f) / 127.0f);
    q.zero_point.push_back(0);
  }
  return q;
}

Result<TokenQParams> decomposed_choose_qparams_per_token_asymmetric(TensorView x) {
  constexpr float kQmin = -128, kQmax = 127;
  const Rounding round(x.dtype);
  AOQ_ASSIGN(const Rows rows, rows_of(x));
  TokenQParams q;
  for (std::size_t i = 0; i < rows.count(); ++i) {
    const torch_math::Range r = torch_math::aminmax(rows.row(i));
    if (std::isnan(r.min)) return error(Code::invalid_data, "choose_qparams_per_token_asymmetric: NaN");
    const float lo = std::min(r.min, 0.0f), hi = std::max(r.max, 0.0f);
    const float scale = std::max(round(round(hi - lo) / (kQmax - kQmin)), 0x1p-23f);
    const float descaled_min = round(lo / scale), descaled_max = round(hi / scale);
    const float min_error = round(kQmin + descaled_min), max_error = round(kQmax + descaled_max);
    float zero_point = round(min_error + max_error) > 0 ? round(kQmin - descaled_min) : round(kQmax - descaled_max);
    zero_point = std::nearbyintf(std::clamp(zero_point, kQmin, kQmax));
    q.scale.push_back(scale);
    q.zero_point.push_back(static_cast<std::int64_t>(zero_point));
  }
  return q;
}

}  // namespace aoq
