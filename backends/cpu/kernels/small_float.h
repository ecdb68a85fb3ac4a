// Rounding floats to a small float type and back, without the codes.
#pragma once

#include <cstdint>

#include "ir/dtype.h"

namespace aoq::cpu {

// What a float of at most 8 bits with at least one mantissa bit needs for it.
struct SmallFloat {
  float highest = 0.0f;
  float least_normal = 0.0f;
  // Adding this times the power of two below a number leaves only the mantissa bits that the type has.
  float spacing = 0.0f;
  float nan = 0.0f;   // what the magnitude of NaN becomes
  float zero = 0.0f;  // added last: -0 keeps the sign of zero, +0 drops it where the type has none
};
SmallFloat small_float(DType dtype);

// out[i] = x[i] / scale, saturated and rounded half to even, times scale; `out` may be `x`.
void through_small_float(const SmallFloat& type, float scale, const float* x, float* out, std::int64_t n);

}  // namespace aoq::cpu
