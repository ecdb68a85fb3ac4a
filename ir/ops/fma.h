// The inner step of every chain of fused multiply-adds.
#pragma once

#include <cstdint>

namespace aoq::ops {

// acc[i] = fma(a, b[i], acc[i]): one step of n independent chains, each rounded once.
void fma_accumulate(float a, const float* b, float* acc, std::int64_t n);

}  // namespace aoq::ops
