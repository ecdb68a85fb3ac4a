// The numerics of a few PyTorch CPU kernels that observers depend on bit by bit (spec C.3). Orders of summation are
// those of the AVX2 kernels.
#pragma once

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

// torch.linalg.vector_norm of a contiguous row: 8 lanes, then the rest by fours, then a fused multiply-add each.
float norm(std::span<const float> values);

// torch.linspace in fp32: symmetric about its middle, one rounding per element.
std::vector<float> linspace(float lo, float hi, std::int64_t steps);

// torch.histc: counts in fp32; values outside [lo, hi] and NaN are not counted. lo == hi means the range of `values`.
std::vector<float> histc(std::span<const float> values, std::int64_t bins, float lo, float hi);

// A float tensor's .to(torch.int32): truncates; NaN and values out of range become the least integer, as on x86.
std::int32_t to_int32(float value);

}  // namespace aoq::torch_math
