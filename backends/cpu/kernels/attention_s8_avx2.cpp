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
  // A panel's sums are all there, even those behind the last column.
  const std::int32_t* from = row.sums + i / 32 * row.panel_pitch + i % 32;
  const __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), load_first(row.scales + i, left).v);
  const __m256 factor = _mm256_set1_ps(row.factor);
  if (row.mask == nullptr) return _mm256_mul_ps(x, factor);
  const F32x8 mask = row.mask_column == 0 ? F32x8(*row.mask) : load_first(row.mask + i, left);
  return _mm256_fmadd_ps(x, factor, mask.v);
}

// max|x| by the bits, which order like the numbers and put NaN on top.
inline __m256i larger_magnitude(__m256i max, __m256 x) {
  return _mm256_max_epi32(max, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)));
}

// The codes of eight numbers, as quantize_value makes them.
inline __m256i codes_of(__m256 x, __m256 inverse) {
  const __m256 v = _mm256_max_ps(_mm256_mul_ps(x, inverse), _mm256_set1_ps(-127.0f));
  return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(127.0f)));
}

// 1 / step, or 0 where the step is none.
inline __m256 inverse_of(__m256 step) {
  const __m256 is_positive = _mm256_cmp_ps(step, _mm256_setzero_ps(), _CMP_GT_OQ);
  return _mm256_and_ps(is_positive, _mm256_div_ps(_mm256_set1_ps(1.0f), step));
}

inline __m256 number_at(const CodeLine& line, std::int64_t i) {
  const F32x8 x = load_first(line.x + i, line.count - i);
  return line.mean == nullptr ? x.v : (x - load_first(line.mean + i, line.count - i)).v;
}

}  // namespace

float line_codes_avx2(const CodeLine& line, std::int16_t* codes) {
  __m256i max = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < line.count; i += 8) max = larger_magnitude(max, number_at(line, i));
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  const float step = _mm_cvtss_f32(_mm_castsi128_ps(most)) / 127.0f;
  const __m256 inverse = inverse_of(_mm256_set1_ps(step));
  for (std::int64_t i = 0; i < line.count; i += 8) {
    const __m256i c = _mm256_and_si256(codes_of(number_at(line, i), inverse), first_lanes(min_of(line.count - i, 8)));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), words);
  }
  return step;
}

void pack_columns_s16_avx2(const PackColumns& p) {
  for (std::int64_t e = 0; e < p.columns; e += 8) {
    const std::int64_t left = p.columns - e;
    __m256i max = _mm256_setzero_si256();
    for (std::int64_t j = 0; j < p.rows; ++j) max = larger_magnitude(max, load_first(p.x + j * p.pitch + e, left).v);
    const __m256 step = _mm256_div_ps(_mm256_castsi256_ps(max), _mm256_set1_ps(127.0f));
    store_first(p.steps + e, F32x8(step), left);
    const __m256 inverse = inverse_of(step);
    std::int16_t* to = p.panels + (e / 32 * p.pairs * 32 + e % 32) * 2;
    for (std::int64_t j = 0; j < p.rows; j += 2, to += 64) {
      const __m256i even = codes_of(load_first(p.x + j * p.pitch + e, left).v, inverse);
      __m256i pairs = _mm256_and_si256(even, _mm256_set1_epi32(0xffff));
      if (j + 1 < p.rows) {
        const __m256i odd = codes_of(load_first(p.x + (j + 1) * p.pitch + e, left).v, inverse);
        pairs = _mm256_or_si256(pairs, _mm256_slli_epi32(odd, 16));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), pairs);
    }
  }
}

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
