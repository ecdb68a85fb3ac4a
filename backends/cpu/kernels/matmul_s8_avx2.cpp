// Four rows times 32 columns in two halves of 16: 8 accumulators, 2 vectors of b, a broadcast and a product.
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/matmul_s8.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {

void multiply_s16_avx2(const std::int16_t* a, std::int64_t pitch, const std::int16_t* b, std::int64_t pairs,
                       std::int32_t* sums) {
  for (int half = 0; half < 2; ++half) {
    __m256i sum[4][2];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      const auto* from = reinterpret_cast<const __m256i*>(b + (pair * 32 + half * 16) * 2);
      const __m256i low = _mm256_loadu_si256(from), high = _mm256_loadu_si256(from + 1);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const __m256i x = _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(a + r * pitch + 2 * pair));
        add_s32_in_place(sum[r][0], _mm256_madd_epi16(x, low));
        add_s32_in_place(sum[r][1], _mm256_madd_epi16(x, high));
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      auto* to = reinterpret_cast<__m256i*>(sums + r * 32 + half * 16);
      _mm256_storeu_si256(to, sum[r][0]);
      _mm256_storeu_si256(to + 1, sum[r][1]);
    }
  }
}

}  // namespace aoq::cpu
