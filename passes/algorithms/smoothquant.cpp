#include "passes/algorithms/smoothquant.h"

#include <algorithm>
#include <cmath>

#include "passes/algorithms/weight_matrix.h"

namespace aoq {
namespace {

constexpr float kEps = 0x1p-23f;

// As PyTorch does it for a number as exponent, which takes the type of the base first.
float power(float base, double exponent, const Rounding& round) {
  const float e = round(static_cast<float>(exponent));
  return round(static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(e))));
}

std::vector<float> column_amax(const WeightMatrix& m) {
  std::vector<float> amax(static_cast<std::size_t>(m.columns));
  for (std::size_t i = 0; i < m.values.size(); ++i) {
    float& a = amax[i % amax.size()];
    a = std::max(a, std::fabs(m.values[i]));
  }
  return amax;
}

Status check_seen(const SmoothQuantObserver& observer, std::size_t features) {
  if (!observer.has_seen_data()) return error(Code::invalid_data, "smoothquant: no calibration data were seen");
  if (observer.max().size() == features) return {};
  return error(Code::invalid_argument, "smoothquant: an observer of {} features for a layer of {}",
               observer.max().size(), features);
}

}  // namespace

Result<SmoothQuantObserver> SmoothQuantObserver::make(std::int64_t features) {
  if (features < 1) return error(Code::invalid_argument, "smoothquant: a layer of {} features", features);
  SmoothQuantObserver observer;
  observer.min_.assign(static_cast<std::size_t>(features), std::numeric_limits<float>::infinity());
  observer.max_.assign(static_cast<std::size_t>(features), -std::numeric_limits<float>::infinity());
  return observer;
}

Status SmoothQuantObserver::observe(TensorView x) {
  if (x.shape.empty() || x.shape.back() != static_cast<std::int64_t>(max_.size())) {
    return error(Code::invalid_argument, "smoothquant: an input of shape {} for {} features", shape_to_string(x.shape),
                 max_.size());
  }
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      return error(Code::invalid_data, "smoothquant: input element {} is {}", i, values[i]);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t k = i % max_.size();
    min_[k] = std::min(min_[k], values[i]);
    max_[k] = std::max(max_[k], values[i]);
  }
  has_seen_data_ |= !values.empty();
  return {};
}

Result<std::vector<float>> smoothquant_factors(const SmoothQuantObserver& observer, TensorView weight,
                                               std::optional<double> alpha) {
  AOQ_ASSIGN(const WeightMatrix m, weight_matrix("smoothquant", weight));
  AOQ_TRY(check_seen(observer, static_cast<std::size_t>(m.columns)));
  const std::vector<float> w = column_amax(m);
  std::vector<float> factors(w.size(), 1.0f);
  if (!alpha) return factors;
  const Rounding round(weight.dtype);
  for (std::size_t k = 0; k < factors.size(); ++k) {
    const float x = std::max(std::fabs(observer.min()[k]), std::fabs(observer.max()[k]));
    const float from_input = power(round(round(x) + kEps), *alpha, round);
    const float from_weight = power(round(w[k] + kEps), 1 - *alpha, round);
    factors[k] = round(from_input / from_weight);
    if (!(factors[k] > 0) || !std::isfinite(factors[k])) {
      return error(Code::invalid_data, "smoothquant: channel {} has the factor {}: inputs up to {}, weights up to {}",
                   k, factors[k], x, w[k]);
    }
  }
  return factors;
}

Result<SmoothedRange> smoothed_range(const SmoothQuantObserver& observer, std::span<const float> factors, DType dtype) {
  AOQ_TRY(check_seen(observer, factors.size()));
  const Rounding round(dtype);
  SmoothedRange range{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  for (std::size_t k = 0; k < factors.size(); ++k) {
    range.min = std::min(range.min, round(observer.min()[k] / factors[k]));
    range.max = std::max(range.max, round(observer.max()[k] / factors[k]));
  }
  return range;
}

}  // namespace aoq
