#include "backends/cpu/kernels/attention_rows_s8.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

// The larger one; a NaN in x does not count.
inline __m256 larger(__m256 x, __m256 max) {
  return _mm256_max_ps(x, max);
}

inline float largest(__m256 max) {
  return combine_lanes(F32x8(max), F32x8(max), [](F32x8 a, F32x8 b) { return F32x8(larger(a.v, b.v)); });
}

inline __m256 score_of(const WeighRow& row, std::int64_t i) {
  const std::int64_t left = row.columns - i;
  const __m256i sums = left >= 8 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.sums + i))
                                 : _mm256_maskload_epi32(row.sums + i, first_lanes(left));
  const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), load_first(row.scales + i, left).v);
  const __m256 factor = _mm256_set1_ps(row.factor);
  if (row.mask == nullptr) return _mm256_mul_ps(x, factor);
  const F32x8 mask = row.mask_column == 0 ? F32x8(*row.mask) : load_first(row.mask + i, left);
  return _mm256_fmadd_ps(x, factor, mask.v);
}

}  // namespace

float weigh_row_avx2(const WeighRow& row) {
  const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
  __m256 max = lowest;
  for (std::int64_t i = 0; i < row.columns; i += 8) {
    const std::int64_t left = row.columns - i;
    const __m256 score = score_of(row, i);
    store_first(row.scores + i, F32x8(score), left);
    const __m256 exists = _mm256_castsi256_ps(first_lanes(min_of(left, 8)));
    max = larger(_mm256_blendv_ps(lowest, score, exists), max);
  }
  const F32x8 top(largest(max));
  const __m256 levels = _mm256_set1_ps(static_cast<float>(row.levels));
  __m256i sum = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < row.columns; i += 8) {
    const std::int64_t left = row.columns - i;
    const F32x8 e = math::exp_weight_fn(load_first(row.scores + i, left) - top);
    const __m256i all = _mm256_cvtps_epi32(_mm256_mul_ps(e.v, levels));
    const __m256i codes = _mm256_and_si256(all, first_lanes(min_of(left, 8)));
    sum = _mm256_add_epi32(sum, codes);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row.weights + i), words);
  }
  alignas(32) std::int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  std::int32_t total = 0;
  for (std::int32_t lane : lanes) total += lane;
  return 1.0f / static_cast<float>(total);
}

}  // namespace aoq::cpu
