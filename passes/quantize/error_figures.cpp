#include "passes/quantize/error_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aoq {

namespace {

constexpr double kMaxDecibels = 999.0;
constexpr float kRounding = 1e-5f;

}  // namespace

void ErrorFigures::add(std::span<const float> x, std::span<const float> y) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) {
      mismatches_ += std::isfinite(x[i]) != std::isfinite(y[i]);
      continue;
    }
    const double real = static_cast<double>(x[i]), difference = real - static_cast<double>(y[i]);
    signal_ += real * real;
    noise_ += difference * difference;
  }
}

void ErrorFigures::add(std::span<const float> x, std::span<const float> y, const Codes& c) {
  add(x, y);
  codes_ += static_cast<std::int64_t>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int64_t code = load_integer(c.codes.dtype, c.codes.data, static_cast<std::int64_t>(i));
    const float slack = std::fabs(y[i]) * kRounding;
    const bool is_beyond = (code == c.lowest && x[i] < y[i] - slack) || (code == c.highest && x[i] > y[i] + slack);
    if (is_beyond) ++saturated_;
  }
}

double ErrorFigures::relative_error() const {
  if (mismatches_ > 0) return std::numeric_limits<double>::infinity();
  if (noise_ == 0) return 0;
  return signal_ == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(noise_ / signal_);
}

double ErrorFigures::sqnr_db() const {
  if (mismatches_ > 0) return -kMaxDecibels;
  if (noise_ == 0) return kMaxDecibels;
  if (signal_ == 0) return -kMaxDecibels;
  return std::clamp(10 * std::log10(signal_ / noise_), -kMaxDecibels, kMaxDecibels);
}

std::optional<double> ErrorFigures::saturation() const {
  if (codes_ == 0) return std::nullopt;
  return static_cast<double>(saturated_) / static_cast<double>(codes_);
}

ErrorFigures::Codes whole_range(const TensorView& codes) {
  const DTypeInfo& info = dtype_info(codes.dtype);
  return {codes, static_cast<std::int64_t>(info.min), static_cast<std::int64_t>(info.max)};
}

}  // namespace aoq
