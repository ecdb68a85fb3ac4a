// SmoothQuant: moves the spread of a layer's input channels into its weight (Xiao et al., 2023, "SmoothQuant: Accurate
// and Efficient Post-Training Quantization for Large Language Models"; pytorch-semantics D.12).
//
//   factor[k] = (max |x[:, k]| + eps)^alpha / (max |w[:, k]| + eps)^(1 - alpha),   eps = 2^-23
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// The range of every input channel, in 2 * K floats however much data pass. Not thread-safe.
class SmoothQuantObserver {
 public:
  // invalid_argument for less than one feature.
  static Result<SmoothQuantObserver> make(std::int64_t features);

  // x [..., K] in f32, bf16 or f16. invalid_argument for another K; invalid_data for NaN and infinity.
  Status observe(TensorView x);

  bool has_seen_data() const { return has_seen_data_; }
  const std::vector<float>& min() const { return min_; }
  const std::vector<float>& max() const { return max_; }

 private:
  std::vector<float> min_, max_;
  bool has_seen_data_ = false;
};

// One factor per input channel, every operation rounded to the weight's type. Without alpha all are 1. invalid_data
// where no data were seen, for NaN or infinity in the weight, and for a factor that is not positive and finite;
// invalid_argument for shapes that do not fit.
Result<std::vector<float>> smoothquant_factors(const SmoothQuantObserver& observer, TensorView weight,
                                               std::optional<double> alpha);

// The range of the whole input divided by the factors, rounded to `dtype`: what a static activation scale follows from.
struct SmoothedRange {
  float min;
  float max;
};
Result<SmoothedRange> smoothed_range(const SmoothQuantObserver& observer, std::span<const float> factors, DType dtype);

}  // namespace aoq
