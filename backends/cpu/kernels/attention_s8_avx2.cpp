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

// Whether a vector is whole or the last one of a line.
enum class Part : std::uint8_t { whole, cut };
// What is added to a score: nothing, one number for the row, or one for each column.
enum class Added : std::uint8_t { nothing, one, each };

template <Part kPart>
inline __m256 numbers_at(const float* x, std::int64_t i, std::int64_t count) {
  if constexpr (kPart == Part::whole) return _mm256_loadu_ps(x + i);
  return load_first(x + i, count - i).v;
}

template <Added kAdded, Part kPart>
inline __m256 score_of(const WeighRow& row, std::int64_t i) {
  // A panel's sums are all there, even those behind the last column.
  const std::int32_t* from = row.sums + i / 32 * row.panel_pitch + i % 32;
  const __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), numbers_at<kPart>(row.scales, i, row.columns));
  const __m256 factor = _mm256_set1_ps(row.factor);
  if constexpr (kAdded == Added::nothing) return _mm256_mul_ps(x, factor);
  if constexpr (kAdded == Added::one) return _mm256_fmadd_ps(x, factor, _mm256_set1_ps(*row.mask));
  return _mm256_fmadd_ps(x, factor, numbers_at<kPart>(row.mask, i, row.columns));
}

// Stores the scores of a row; returns the largest.
template <Added kAdded>
inline float store_scores(const WeighRow& row) {
  const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
  __m256 max = lowest;
  std::int64_t i = 0;
  for (; i + 8 <= row.columns; i += 8) {
    const __m256 score = score_of<kAdded, Part::whole>(row, i);
    _mm256_storeu_ps(row.scores + i, score);
    max = larger(score, max);
  }
  if (i < row.columns) {
    const __m256 score = score_of<kAdded, Part::cut>(row, i);
    store_first(row.scores + i, F32x8(score), row.columns - i);
    const __m256 exists = _mm256_castsi256_ps(first_lanes(row.columns - i));
    max = larger(_mm256_blendv_ps(lowest, score, exists), max);
  }
  return largest(max);
}

inline float store_scores(const WeighRow& row) {
  if (row.mask == nullptr) return store_scores<Added::nothing>(row);
  return row.mask_column == 0 ? store_scores<Added::one>(row) : store_scores<Added::each>(row);
}

// exp(score - top) * levels as codes.
template <Part kPart>
inline __m256i weights_at(const WeighRow& row, std::int64_t i, F32x8 top, __m256 levels) {
  const F32x8 e = math::exp_weight_fn(F32x8(numbers_at<kPart>(row.scores, i, row.columns)) - top);
  const __m256i codes = _mm256_cvtps_epi32(_mm256_mul_ps(e.v, levels));
  if constexpr (kPart == Part::whole) return codes;
  return _mm256_and_si256(codes, first_lanes(row.columns - i));
}

inline __m128i words_of(__m256i x) {
  return _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
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

template <Part kPart>
inline __m256 centred(const CodeLine& line, std::int64_t i) {
  const __m256 x = numbers_at<kPart>(line.x, i, line.count);
  return line.mean == nullptr ? x : _mm256_sub_ps(x, numbers_at<kPart>(line.mean, i, line.count));
}

template <Part kPart>
inline void store_codes(const CodeLine& line, std::int64_t i, __m256 inverse, std::int16_t* codes) {
  __m256i c = codes_of(centred<kPart>(line, i), inverse);
  if constexpr (kPart == Part::cut) c = _mm256_and_si256(c, first_lanes(line.count - i));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), words_of(c));
}

}  // namespace

float line_codes_avx2(const CodeLine& line, std::int16_t* codes) {
  const std::int64_t whole = line.count / 8 * 8;
  __m256i max = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < whole; i += 8) max = larger_magnitude(max, centred<Part::whole>(line, i));
  if (whole < line.count) max = larger_magnitude(max, centred<Part::cut>(line, whole));
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  const float step = _mm_cvtss_f32(_mm_castsi128_ps(most)) / 127.0f;
  const __m256 inverse = inverse_of(_mm256_set1_ps(step));
  for (std::int64_t i = 0; i < whole; i += 8) store_codes<Part::whole>(line, i, inverse, codes);
  if (whole < line.count) store_codes<Part::cut>(line, whole, inverse, codes);
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
  const F32x8 top(store_scores(row));
  const __m256 levels = _mm256_set1_ps(static_cast<float>(row.levels));
  __m256i sum = _mm256_setzero_si256();
  std::int64_t i = 0;
  const auto store = [&](__m256i codes) {
    sum = _mm256_add_epi32(sum, codes);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row.weights + i), words_of(codes));
  };
  for (; i + 8 <= row.columns; i += 8) store(weights_at<Part::whole>(row, i, top, levels));
  if (i < row.columns) store(weights_at<Part::cut>(row, i, top, levels));
  alignas(32) std::int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  std::int32_t total = 0;
  for (std::int32_t lane : lanes) total += lane;
  return 1.0f / static_cast<float>(total);
}

}  // namespace aoq::cpu
