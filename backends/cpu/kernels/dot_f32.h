// The dot product of ir/math.h: 16 lanes of fused multiply-adds.
#pragma once

#include <cstdint>

#include "backends/cpu/cpu_features.h"

namespace aoq::cpu {

// math::dot(a, b, n), bit for bit.
float dot_f32(Isa isa, const float* a, const float* b, std::int64_t n);

// Entry of the AVX2 translation unit: only where the processor has it.
float dot_f32_avx2(const float* a, const float* b, std::int64_t n);

}  // namespace aoq::cpu
