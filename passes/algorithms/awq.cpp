#include "passes/algorithms/awq.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "passes/algorithms/channel_scales.h"
#include "passes/algorithms/weight_matrix.h"

namespace aoq {
namespace {

// As PyTorch does it for a number as exponent, which takes the type of the base first.
float power(float base, double exponent, const Rounding& round) {
  const float e = round(static_cast<float>(exponent));
  return round(static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(e))));
}

Result<Tensor> rounded_tensor(std::span<const float> values, std::int64_t columns, DType dtype) {
  AOQ_ASSIGN(Tensor t, Tensor::make(dtype, {static_cast<std::int64_t>(values.size()) / columns, columns}));
  dtype_info(dtype).from_float(values, t.mutable_bytes().data(), 0);
  return t;
}

float dot(std::span<const float> a, std::span<const float> b) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> lanes{};
  std::size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += a[i + k] * b[i + k];
  }
  for (; i < a.size(); ++i) lanes[i % kLanes] += a[i] * b[i];
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

// What the layer gives before it is quantized.
std::vector<float> float_results(const WeightMatrix& w, std::span<const float> rows, std::span<const float> bias,
                                 const Rounding& round) {
  std::vector<float> y;
  const std::size_t columns = static_cast<std::size_t>(w.columns);
  for (std::size_t at = 0; at < rows.size(); at += columns) {
    for (std::int64_t n = 0; n < w.rows; ++n) {
      const float sum = dot(rows.subspan(at, columns), w.row(n));
      y.push_back(round(bias.empty() ? sum : sum + bias[static_cast<std::size_t>(n)]));
    }
  }
  return y;
}

Result<float> mean_squared_difference(std::span<const float> expected, const Tensor& found, const Rounding& round) {
  AOQ_ASSIGN(std::vector<float> squares, to_floats(found.view()));
  if (squares.size() != expected.size()) {
    return error(Code::invalid_argument, "awq: the quantized layer gives {} numbers, the float layer {}",
                 squares.size(), expected.size());
  }
  for (std::size_t i = 0; i < squares.size(); ++i) {
    const float difference = round(expected[i] - squares[i]);
    squares[i] = round(difference * difference);
  }
  return round(torch_math::sum(squares) / static_cast<float>(squares.size()));
}

Result<std::vector<float>> bias_of(const AwqLayer& layer) {
  if (layer.bias == nullptr) return std::vector<float>();
  const bool fits = layer.bias->element_count() == layer.weight.shape[0];
  if (!fits) {
    return error(Code::invalid_argument, "awq: a bias of shape {} for a weight of shape {}",
                 shape_to_string(layer.bias->shape()), shape_to_string(layer.weight.shape));
  }
  return to_floats(layer.bias->view());
}

// The layer's result on the recorded rows in float, and how far others are from it.
class Measure {
 public:
  static Result<Measure> make(const AwqObserver& observer, const AwqLayer& layer) {
    AOQ_ASSIGN(const WeightMatrix w, weight_matrix("awq", layer.weight));
    AOQ_ASSIGN(const std::vector<float> bias, bias_of(layer));
    if (observer.rows_seen() == 0) return error(Code::invalid_data, "awq: no calibration data were seen");
    if (observer.features() != w.columns) {
      return error(Code::invalid_argument, "awq: an observer of {} features for a layer of {}", observer.features(),
                   w.columns);
    }
    return Measure(observer, layer, float_results(w, observer.recorded(), bias, Rounding(layer.weight.dtype)));
  }

  Result<float> loss(std::span<const float> factors) const {
    std::vector<float> scaled = observer_.recorded();
    for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] /= factors[i % factors.size()];
    AOQ_ASSIGN(const Tensor x, rounded_tensor(scaled, observer_.features(), layer_.weight.dtype));
    AOQ_ASSIGN(const Tensor weight, scale_columns(layer_.weight, factors));
    AOQ_ASSIGN(const Tensor y, layer_.quantized_linear(weight.view(), x.view()));
    return mean_squared_difference(expected_, y, Rounding(layer_.weight.dtype));
  }

 private:
  Measure(const AwqObserver& observer, const AwqLayer& layer, std::vector<float> expected)
      : observer_(observer), layer_(layer), expected_(std::move(expected)) {}

  const AwqObserver& observer_;
  const AwqLayer& layer_;
  std::vector<float> expected_;
};

}  // namespace

Result<AwqObserver> AwqObserver::make(std::int64_t features, const AwqObserverOptions& options) {
  if (features < 1) return error(Code::invalid_argument, "awq: a layer of {} features", features);
  const std::int64_t max_rows = options.max_bytes / 4 / features;
  if (max_rows < 1) {
    return error(Code::invalid_argument, "awq: a limit of {} bytes holds no row of {} features", options.max_bytes,
                 features);
  }
  return AwqObserver(features, max_rows, options.overflow);
}

Status AwqObserver::observe(TensorView x) {
  if (x.shape.empty() || x.shape.back() != features_) {
    return error(Code::invalid_argument, "awq: an input of shape {} for {} features", shape_to_string(x.shape),
                 features_);
  }
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return error(Code::invalid_data, "awq: input element {} is {}", i, values[i]);
  }
  const std::size_t columns = static_cast<std::size_t>(features_);
  std::vector<float> magnitudes(columns);
  for (std::size_t at = 0; at < values.size(); at += columns) {
    const std::span<const float> row = std::span(values).subspan(at, columns);
    AOQ_TRY(record(row));
    for (std::size_t k = 0; k < columns; ++k) magnitudes[k] = std::fabs(row[k]);
    sums_.add(magnitudes);
  }
  return {};
}

Status AwqObserver::record(std::span<const float> row) {
  const bool is_full = static_cast<std::int64_t>(rows_.size()) / features_ == max_rows_;
  if (rows_seen_ % stride_ == 0 && is_full) {
    if (overflow_ == AwqOverflow::fail) {
      return error(Code::resource_limit, "awq: more than {} rows of {} features, the limit is {} bytes", max_rows_,
                   features_, max_rows_ * features_ * 4);
    }
    thin_out();
  }
  const bool has_room = static_cast<std::int64_t>(rows_.size()) / features_ < max_rows_;
  if (rows_seen_ % stride_ == 0 && has_room) rows_.insert(rows_.end(), row.begin(), row.end());
  ++rows_seen_;
  return {};
}

void AwqObserver::thin_out() {
  const std::int64_t kept = (static_cast<std::int64_t>(rows_.size()) / features_ + 1) / 2;
  for (std::int64_t r = 1; r < kept; ++r) {
    std::copy_n(rows_.begin() + 2 * r * features_, features_, rows_.begin() + r * features_);
  }
  rows_.resize(static_cast<std::size_t>(kept * features_));
  stride_ *= 2;
}

std::vector<float> AwqObserver::mean_magnitude() const {
  if (rows_seen_ == 0) return {};
  std::vector<float> mean = sums_.totals();
  for (float& m : mean) m /= static_cast<float>(rows_seen_);
  return mean;
}

Result<std::vector<float>> awq_candidate(const AwqObserver& observer, double ratio, DType dtype) {
  if (observer.rows_seen() == 0) return error(Code::invalid_data, "awq: no calibration data were seen");
  const Rounding round(dtype);
  std::vector<float> factors = observer.mean_magnitude();
  for (float& f : factors) f = std::max(power(round(f), ratio, round), round(1e-4f));
  const auto [lowest, highest] = std::minmax_element(factors.begin(), factors.end());
  const float middle = round(std::sqrt(round(*highest * *lowest)));
  for (float& f : factors) f = round(f / middle);
  return factors;
}

Result<float> awq_loss(const AwqObserver& observer, const AwqLayer& layer, std::span<const float> factors) {
  AOQ_ASSIGN(const Measure measure, Measure::make(observer, layer));
  return measure.loss(factors);
}

Result<AwqSearch> awq_search(const AwqObserver& observer, const AwqLayer& layer, int candidates) {
  if (candidates < 1) return error(Code::invalid_argument, "awq: {} candidates, expected 1 or more", candidates);
  AOQ_ASSIGN(const Measure measure, Measure::make(observer, layer));
  AwqSearch best{std::vector<float>(static_cast<std::size_t>(observer.features()), 1.0f),
                 std::numeric_limits<float>::infinity(), -1};
  for (int i = 0; i < candidates; ++i) {
    const double ratio = static_cast<double>(i) / candidates;
    AOQ_ASSIGN(std::vector<float> factors, awq_candidate(observer, ratio, layer.weight.dtype));
    AOQ_ASSIGN(const float loss, measure.loss(factors));
    if (loss < best.loss) best = {std::move(factors), loss, i};
  }
  return best;
}

}  // namespace aoq
