#include "passes/quantize/scalar_qparams.h"

#include <cmath>

namespace aoq {

std::int64_t scalar_steps(double scale, double other) {
  // Far more steps than any range has codes; a conversion to an integer stays defined.
  constexpr double kFar = 1e15;
  const double steps = std::nearbyint(other / scale);
  return std::isnan(steps) ? 0 : static_cast<std::int64_t>(std::fmin(std::fmax(steps, -kFar), kFar));
}

TensorQParams add_scalar_qparams(const TensorQParams& x, double other, QRange range) {
  const std::int64_t moved = x.zero_point - scalar_steps(x.scale, other);
  const double codes = static_cast<double>(range.max) - static_cast<double>(range.min);
  if (moved < range.min) return {static_cast<double>(range.max - moved) / codes * x.scale, range.min};
  if (moved > range.max) return {static_cast<double>(moved - range.min) / codes * x.scale, range.max};
  return {x.scale, moved};
}

TensorQParams mul_scalar_qparams(const TensorQParams& x, double other, QRange range) {
  if (other > 0) return {other * x.scale, x.zero_point};
  if (other == 0) return {1.0, 0};
  return {std::fabs(other) * x.scale, range.max - (x.zero_point - range.min)};
}

}  // namespace aoq
