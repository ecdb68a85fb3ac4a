// The numerics of a few PyTorch CPU kernels that observers depend on bit by bit (spec C.3). Orders of summation are
// those of the AVX2 kernels.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace aoq::torch_math {

struct Range {
  float min;
  float max;
};

// min, max and comparisons that give NaN when either side is NaN, as torch.min, torch.max and aminmax do.
float min(float a, float b);
float max(float a, float b);
// `values` must not be empty.
Range aminmax(std::span<const float> values);

// torch.sum of a contiguous row: 8 lanes, 4 rows at a time, partial sums in levels.
float sum(std::span<const float> values);

// torch.sum over the first dimension of a matrix, given row by row: partial sums in levels of 16 rows; the columns
// behind the last multiple of 32 are summed in four interleaved series. As PyTorch does it for up to 2^19 rows.
class ColumnSums {
 public:
  explicit ColumnSums(std::int64_t columns);

  // As many numbers as columns.
  void add(std::span<const float> row);
  std::vector<float> totals() const;

 private:
  // The sums of one series of rows.
  struct Series {
    std::array<std::vector<float>, 4> levels;
    std::int64_t rows = 0;

    explicit Series(std::size_t columns);
    void add(std::span<const float> row);
    std::vector<float> totals() const;
  };

  std::size_t columns_, plain_columns_;
  Series plain_;
  std::vector<Series> interleaved_;  // four
  std::vector<float> pending_;       // the rest of the rows of a group of four that is not complete
};

// torch.linalg.vector_norm of a contiguous row: 8 lanes, then the rest by fours, then a fused multiply-add each.
float norm(std::span<const float> values);

// torch.linspace in fp32: symmetric about its middle, one rounding per element.
std::vector<float> linspace(float lo, float hi, std::int64_t steps);

// torch.histc: counts in fp32; values outside [lo, hi] and NaN are not counted. lo == hi means the range of `values`.
std::vector<float> histc(std::span<const float> values, std::int64_t bins, float lo, float hi);

// A float tensor's .to(torch.int32): truncates; NaN and values out of range become the least integer, as on x86.
std::int32_t to_int32(float value);

}  // namespace aoq::torch_math
