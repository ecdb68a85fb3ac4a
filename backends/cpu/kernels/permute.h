// Transposition: copies a tensor of up to 6 axes with its axes in another order. Elements of 1, 2, 4 or 8 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace aoq::cpu {

inline constexpr int kMaxPermuteAxes = 6;

struct PermutePlan {
  int rank = 0;                                // after merging axes that stay together; at least 1
  std::int64_t dims[kMaxPermuteAxes] = {};     // of the output
  std::int64_t strides[kMaxPermuteAxes] = {};  // in the input, in elements, of the output's axes
  std::int64_t element_bytes = 1;
  std::int64_t units = 0;  // slices of the output's first axis
};

// Axis i of the output is axis order[i] of the input, whose dimensions are `dims`.
PermutePlan plan_permute(std::span<const std::int64_t> dims, std::span<const int> order, std::int64_t element_bytes);

void run_permute(const PermutePlan& plan, const void* x, void* out, std::int64_t unit_begin, std::int64_t unit_end);

}  // namespace aoq::cpu
