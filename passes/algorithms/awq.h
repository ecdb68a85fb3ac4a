// AWQ: one factor per input channel that keeps the channels with large inputs precise, found by trying powers of the
// mean input (Lin et al., 2024, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration";
// pytorch-semantics D.11).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/torch_math.h"

namespace aoq {

// What an observer does when its rows no longer fit.
enum class AwqOverflow : std::uint8_t {
  thin_out,  // drops every second row it has, and from then on keeps half as many of those that come
  fail,      // resource_limit
};

struct AwqObserverOptions {
  std::int64_t max_bytes = std::int64_t{64} << 20;  // of recorded rows, in f32
  AwqOverflow overflow = AwqOverflow::thin_out;
};

// Records a layer's inputs: the mean magnitude of every channel over all rows, and rows to measure by, every one of
// them until max_bytes is reached. Not thread-safe.
class AwqObserver {
 public:
  // invalid_argument for less than one feature, or a limit below one row.
  static Result<AwqObserver> make(std::int64_t features, const AwqObserverOptions& options = {});

  // x [..., K] in f32, bf16 or f16. invalid_argument for another K; invalid_data for NaN and infinity.
  Status observe(TensorView x);

  std::int64_t features() const { return features_; }
  std::int64_t rows_seen() const { return rows_seen_; }
  // Of every channel; empty before the first row.
  std::vector<float> mean_magnitude() const;
  // Row after row, the first of every `stride()` that came.
  const std::vector<float>& recorded() const { return rows_; }
  std::int64_t stride() const { return stride_; }

 private:
  AwqObserver(std::int64_t features, std::int64_t max_rows, AwqOverflow overflow)
      : features_(features), max_rows_(max_rows), overflow_(overflow), sums_(features) {}
  Status record(std::span<const float> row);
  void thin_out();

  std::int64_t features_, max_rows_;
  AwqOverflow overflow_;
  torch_math::ColumnSums sums_;
  std::vector<float> rows_;
  std::int64_t rows_seen_ = 0;
  std::int64_t stride_ = 1;
};

// The layer that the factors are for.
struct AwqLayer {
  TensorView weight;             // [N, K] in f32, bf16 or f16
  const Tensor* bias = nullptr;  // [N], or null
  // The layer's result on x [rows, K] once this weight has been quantized by the base configuration; with the bias.
  std::function<Result<Tensor>(TensorView weight, TensorView x)> quantized_linear;
};

struct AwqSearch {
  std::vector<float> factors;  // [K]
  float loss = 0;              // mean squared difference; infinity where nothing was better
  int candidate = -1;          // of `candidates`; -1 where all factors are 1 for want of a better
};

// mean^ratio, at least 1e-4, over the root of the product of the largest and the smallest: about 1. Every operation is
// rounded to `dtype`. invalid_data without data.
Result<std::vector<float>> awq_candidate(const AwqObserver& observer, double ratio, DType dtype);

// The mean squared difference that factors make to the layer's result on the recorded rows.
Result<float> awq_loss(const AwqObserver& observer, const AwqLayer& layer, std::span<const float> factors);

// Tries the candidates of ratio i / candidates for i = 0, 1, ...; the first of the least loss wins. invalid_data
// without data, and for NaN or infinity in the weight; invalid_argument for shapes that do not fit. Time is candidates
// * (rows * N * K + what quantizing takes).
//
// A row's largest weight lies on a tie of symmetric formats, so that the last place of a factor may decide its code,
// and the loss, by a few percent.
Result<AwqSearch> awq_search(const AwqObserver& observer, const AwqLayer& layer, int candidates = 20);

}  // namespace aoq
