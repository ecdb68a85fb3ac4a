#include <algorithm>
#include <cmath>

#include "ir/checked.h"
#include "passes/algorithms/gptq.h"
#include "passes/quantize/arithmetic.h"

namespace aoq {
namespace {

// Rows of input that are added at once, so that a row of sums is read once for all of them.
constexpr std::int64_t kTileRows = 32;

}  // namespace

Result<GptqObserver> GptqObserver::make(std::int64_t features) {
  if (features < 1) return error(Code::invalid_argument, "gptq: a layer of {} features", features);
  AOQ_ASSIGN(Tensor sums, Tensor::make(DType::f32, {features, features}));
  return GptqObserver(features, std::move(sums));
}

Status GptqObserver::observe(TensorView x) {
  if (x.shape.empty() || x.shape.back() != features_) {
    return error(Code::invalid_argument, "gptq: an input of shape {} for {} features", shape_to_string(x.shape),
                 features_);
  }
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return error(Code::invalid_data, "gptq: input element {} is {}", i, values[i]);
  }
  const std::int64_t added = x.shape.size() <= 2 ? 1 : x.shape[0];
  if (values.empty()) return {};
  const float shrink = static_cast<float>(static_cast<double>(batches_) / static_cast<double>(batches_ + added));
  if (batches_ > 0) {
    for (float& v : sums_.mutable_as<float>()) v *= shrink;
  }
  batches_ += added;
  const float weight = static_cast<float>(std::sqrt(2.0 / static_cast<double>(batches_)));
  for (float& v : values) v *= weight;
  const std::size_t tile = static_cast<std::size_t>(kTileRows * features_);
  for (std::size_t at = 0; at < values.size(); at += tile) {
    add_row_tile(std::span(values).subspan(at, std::min(tile, values.size() - at)));
  }
  return {};
}

void GptqObserver::add_row_tile(std::span<const float> rows) {
  const std::int64_t n = features_;
  const std::int64_t count = static_cast<std::int64_t>(rows.size()) / n;
  float* sums = sums_.mutable_as<float>().data();
  for (std::int64_t i = 0; i < n; ++i) {
    float* to = sums + i * n;
    for (std::int64_t t = 0; t < count; ++t) {
      const float* row = rows.data() + t * n;
      const float factor = row[i];
      for (std::int64_t j = i; j < n; ++j) to[j] += factor * row[j];
    }
  }
}

Result<Tensor> GptqObserver::hessian() const {
  if (batches_ == 0) return error(Code::invalid_data, "gptq: no calibration data were seen");
  Tensor full = sums_;
  const std::span<float> h = full.mutable_as<float>();
  for (std::int64_t i = 0; i < features_; ++i) {
    for (std::int64_t j = 0; j < i; ++j) h[i * features_ + j] = h[j * features_ + i];
  }
  return full;
}

}  // namespace aoq
