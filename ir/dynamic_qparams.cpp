#include "ir/dynamic_qparams.h"

#include <algorithm>
#include <cmath>

namespace aoq {

namespace {

double round_to_power_of_two(double scale) {
  if (scale < 1) return std::ldexp(1.0, -static_cast<int>(std::floor(std::log2(1.0 / scale))));
  return std::ldexp(1.0, static_cast<int>(std::ceil(std::log2(scale))));
}

ChosenQParams symmetric(const DynamicQParams& how, float lo, float hi) {
  const float divisor = static_cast<float>(static_cast<double>(how.range.max - how.range.min) / 2.0);
  const float scale = std::max(std::max(-lo, hi) / divisor, how.eps);
  return {scale, how.range.min < 0 ? 0 : static_cast<std::int32_t>((how.range.min + how.range.max + 1) / 2)};
}

ChosenQParams affine(const DynamicQParams& how, float lo, float hi) {
  const float scale = std::max((hi - lo) / static_cast<float>(how.range.max - how.range.min), how.eps);
  const auto offset = static_cast<std::int64_t>(std::nearbyint(std::max(lo / scale, -65536.0f)));
  return {scale, static_cast<std::int32_t>(std::clamp(how.range.min - offset, how.range.min, how.range.max))};
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
  const std::int64_t middle = (qmin + qmax) / 2;
  if (is_sparse) zero_point = static_cast<double>(middle);
  if (zero_point < static_cast<double>(qmin)) return {scale, qmin};
  if (zero_point > static_cast<double>(qmax)) return {scale, qmax};
  return {scale, static_cast<std::int64_t>(std::nearbyint(zero_point))};
}

DynamicQParams DynamicQParams::from(const Attributes& attributes) {
  DynamicQParams how;
  const DTypeInfo& info = dtype_info(attributes.dtype("dtype"));
  how.range = {static_cast<std::int64_t>(info.min), static_cast<std::int64_t>(info.max)};
  if (attributes.boolean("reduce_range")) how.range = {how.range.min / 2, how.range.max / 2};
  if (attributes.boolean("symmetric")) how.formula = Formula::symmetric;
  if (attributes.string("formula") == "aten") how.formula = Formula::aten;
  how.per_token = attributes.string("granularity") == "token";
  how.eps = static_cast<float>(attributes.real("eps"));
  return how;
}

DynamicQParams DynamicQParams::narrow_linear(const Attributes& attributes) {
  DynamicQParams how;
  how.range = {-128, 127};
  if (attributes.boolean("symmetric")) how.formula = Formula::symmetric;
  how.per_token = true;
  how.eps = static_cast<float>(attributes.real("eps"));
  return how;
}

Result<ChosenQParams> choose_dynamic_qparams(const DynamicQParams& how, float min, float max) {
  if (!std::isfinite(min) || !std::isfinite(max)) {
    return error(Code::invalid_data, "input has the element {}, expected finite numbers",
                 std::isfinite(min) ? max : min);
  }
  const float lo = std::min(min, 0.0f), hi = std::max(max, 0.0f);
  ChosenQParams chosen;
  switch (how.formula) {
    case DynamicQParams::Formula::affine:
      chosen = affine(how, lo, hi);
      break;
    case DynamicQParams::Formula::symmetric:
      chosen = symmetric(how, lo, hi);
      break;
    case DynamicQParams::Formula::aten: {
      const TensorQParams q = choose_quantization_params(lo, hi, {.range = how.range});
      chosen = {static_cast<float>(q.scale), static_cast<std::int32_t>(q.zero_point)};
      break;
    }
  }
  if (std::isfinite(chosen.scale)) return chosen;
  return error(Code::invalid_data, "input covers [{}, {}], too wide for a scale", lo, hi);
}

}  // namespace aoq
