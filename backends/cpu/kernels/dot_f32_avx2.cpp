#include "backends/cpu/kernels/dot_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {

float dot_f32_avx2(const float* a, const float* b, std::int64_t n) {
  F32x8 low(0.0f), high(0.0f);
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    low = fma_of(load(a + i), load(b + i), low);
    high = fma_of(load(a + i + 8), load(b + i + 8), high);
  }
  // Lanes behind the end keep what they have: a product of zeros could turn -0 into +0.
  if (i < n) {
    std::int64_t rest = n - i;
    F32x8 more = fma_of(load_first(a + i, rest), load_first(b + i, rest), low);
    low = select(F32x8(_mm256_castsi256_ps(first_lanes(rest))), more, low);
    if (rest > 8) {
      more = fma_of(load_first(a + i + 8, rest - 8), load_first(b + i + 8, rest - 8), high);
      high = select(F32x8(_mm256_castsi256_ps(first_lanes(rest - 8))), more, high);
    }
  }
  return combine_lanes(low, high, [](F32x8 x, F32x8 y) { return x + y; });
}

}  // namespace aoq::cpu
