// Attention in int8 for AVX512-VNNI. k and v of a head are packed as codes, four bytes of depth or two words of columns
// to a lane; then six rows at a time go through the scores, the softmax and the second product, and never leave the
// first cache.
//
// Queries are codes + 128, as the instruction multiplies unsigned by signed; the sums start from what that adds.
#include "backends/cpu/kernels/attention_vnni.h"
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))
// Loops that want all registers for themselves.
#define AOQ_APART __attribute__((noinline))

constexpr int kRows = kVnniRows;
constexpr int kPanels = 4;  // that a micro-kernel takes at most

using Scratch = VnniScratch;

// max|x| by the bits, which order like the numbers and put NaN on top.
AOQ_INLINE __m512i larger(__m512i max, __m512 x) {
  return _mm512_max_epi32(max, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

// The steps of 16 lines with these largest numbers, and what numbers take to become codes.
struct LineSteps {
  alignas(64) float steps[16];
  alignas(64) float inverses[16];

  AOQ_INLINE explicit LineSteps(__m512i max) {
    const __m512 step = _mm512_div_ps(_mm512_castsi512_ps(max), _mm512_set1_ps(127.0f));
    const __mmask16 is_positive = _mm512_cmp_ps_mask(step, _mm512_setzero_ps(), _CMP_GT_OQ);
    _mm512_store_ps(steps, step);
    _mm512_store_ps(inverses, _mm512_maskz_div_ps(is_positive, _mm512_set1_ps(1.0f), step));
  }
};

// The codes of 16 numbers, as quantize_value makes them.
AOQ_INLINE __m512i codes_of(__m512 x, __m512 inverse) {
  const __m512 v = _mm512_max_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(-127.0f));
  return _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(127.0f)));
}

// Whether sixteen numbers or columns are all there.
enum class Part : std::uint8_t { whole, cut };

// Sixteen lines of numbers, of which the last ones may be one.
struct Lines {
  const float* at[16];

  Lines(const float* first, std::int64_t pitch, std::int64_t count) {
    for (std::int64_t j = 0; j < 16; ++j) at[j] = first + min_of(j, count - 1) * pitch;
  }
};

// Sixteen numbers or the last ones of a line, less their mean where there is one; zeros behind them.
template <Part kPart>
AOQ_INLINE __m512 centred(const float* x, const float* mean, std::int64_t i, std::int64_t depth) {
  if constexpr (kPart == Part::whole) {
    const __m512 v = _mm512_loadu_ps(x + i);
    return mean == nullptr ? v : _mm512_sub_ps(v, _mm512_load_ps(mean + i));
  }
  const __mmask16 some = first_16(min_of(depth - i, 16));
  const __m512 v = _mm512_maskz_loadu_ps(some, x + i);
  return mean == nullptr ? v : _mm512_maskz_sub_ps(some, v, _mm512_load_ps(mean + i));
}

// The largest word of each of sixteen vectors, in their order: by pairs, fours, and across the quarters.
AOQ_INLINE __m512i largest_of_each(__m512i (&x)[16]) {
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    x[i] = _mm512_max_epi32(_mm512_unpacklo_epi32(x[i], x[i + 1]), _mm512_unpackhi_epi32(x[i], x[i + 1]));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(x[i], x[i + 2]), _mm512_unpackhi_epi64(x[i], x[i + 2]));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 16; i += 8) {
    x[i] = _mm512_max_epi32(_mm512_shuffle_i32x4(x[i], x[i + 4], 0x44), _mm512_shuffle_i32x4(x[i], x[i + 4], 0xee));
  }
  return _mm512_max_epi32(_mm512_shuffle_i32x4(x[0], x[8], 0x88), _mm512_shuffle_i32x4(x[0], x[8], 0xdd));
}

// max|x| of each line.
template <Part kPart>
AOQ_INLINE __m512i largest_of(const Lines& lines, const float* mean, std::int64_t depth) {
  __m512i max[16];
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) max[j] = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < depth; i += 16) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) max[j] = larger(max[j], centred<kPart>(lines.at[j], mean, i, depth));
  }
  return largest_of_each(max);
}

// Sixteen codes of a line from `i` on; zeros behind its end.
template <Part kPart>
AOQ_INLINE __m128i line_codes(const float* x, const float* mean, std::int64_t i, std::int64_t depth, float inverse) {
  const __m512i codes = codes_of(centred<kPart>(x, mean, i, depth), _mm512_set1_ps(inverse));
  if constexpr (kPart == Part::whole) return _mm512_cvtepi32_epi8(codes);
  return _mm512_maskz_cvtepi32_epi8(first_16(min_of(depth - i, 16)), codes);
}

// Sums over columns from the first on, divided by their number.
void find_mean(const AttentionDims& d, const float* k, const Scratch& s) {
  for (std::int64_t i = 0; i < d.depth; i += 16) {
    const __mmask16 some = first_16(min_of(d.depth - i, 16));
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t j = 0; j < d.columns; ++j) {
      sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(some, k + j * d.heads * d.depth + i));
    }
    _mm512_store_ps(s.mean + i, _mm512_div_ps(sum, _mm512_set1_ps(static_cast<float>(d.columns))));
  }
}

// Rows of four words become columns.
AOQ_INLINE void transpose_4x4(__m128i (&x)[4]) {
  const __m128i a = _mm_unpacklo_epi32(x[0], x[1]), b = _mm_unpackhi_epi32(x[0], x[1]);
  const __m128i c = _mm_unpacklo_epi32(x[2], x[3]), d = _mm_unpackhi_epi32(x[2], x[3]);
  x[0] = _mm_unpacklo_epi64(a, c);
  x[1] = _mm_unpackhi_epi64(a, c);
  x[2] = _mm_unpacklo_epi64(b, d);
  x[3] = _mm_unpackhi_epi64(b, d);
}

// Keys from `column` on, at most 16, as one panel.
template <Part kPart>
void pack_key_panel(const AttentionDims& d, const float* k, std::int64_t column, const Scratch& s) {
  const std::int64_t pitch = d.heads * d.depth, columns = min_of(d.columns - column, 16);
  const Lines lines(k + column * pitch, pitch, columns);
  const __m512i max = largest_of<kPart>(lines, s.mean, d.depth);
  const LineSteps steps(_mm512_maskz_mov_epi32(first_16(columns), max));
  copy_bytes(s.key_scales + column, steps.steps, 64);
  std::byte* panel = s.keys + column * s.depth;
  for (std::int64_t j = 0; j < 16; j += 4) {
    for (std::int64_t i = 0; i < d.depth; i += 16) {
      __m128i codes[4];
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) {
        codes[t] = line_codes<kPart>(lines.at[j + t], s.mean, i, d.depth, steps.inverses[j + t]);
        if (j + t >= columns) codes[t] = _mm_setzero_si128();
      }
      transpose_4x4(codes);
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) {
        if (i + 4 * t < s.depth)
          _mm_store_si128(reinterpret_cast<__m128i*>(panel + (i + 4 * t) * 16 + 4 * j), codes[t]);
      }
    }
  }
  __m512i added = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < s.depth; i += 4) {
    added = _mm512_dpbusd_epi32(added, _mm512_set1_epi8(-128), _mm512_load_si512(panel + 16 * i));
  }
  _mm512_store_si512(s.key_starts + column, _mm512_sub_epi32(_mm512_setzero_si512(), added));
}

void pack_values(const AttentionDims& d, const float* v, const Scratch& s) {
  const std::int64_t pitch = d.heads * d.width;
  for (std::int64_t e = 0; e < d.width; e += 16) {
    const __mmask16 some = first_16(min_of(d.width - e, 16));
    __m512i max = _mm512_setzero_si512();
    for (std::int64_t j = 0; j < d.columns; ++j) max = larger(max, _mm512_maskz_loadu_ps(some, v + j * pitch + e));
    const LineSteps lines(max);
    const __m512 inverse = _mm512_load_ps(lines.inverses);
    copy_bytes(s.value_scales + e, lines.steps, 64);
    std::byte* to = s.values + 2 * e * s.columns;
    for (std::int64_t j = 0; j < s.columns; j += 2, to += 64) {
      __m512i pair = _mm512_setzero_si512();
      if (j < d.columns) {
        const __m512 x = _mm512_maskz_loadu_ps(some, v + j * pitch + e);
        pair = _mm512_and_si512(codes_of(x, inverse), _mm512_set1_epi32(0xffff));
      }
      if (j + 1 < d.columns) {
        const __m512 x = _mm512_maskz_loadu_ps(some, v + (j + 1) * pitch + e);
        pair = _mm512_or_si512(pair, _mm512_slli_epi32(codes_of(x, inverse), 16));
      }
      _mm512_store_si512(to, pair);
    }
  }
}

// Four products of bytes, or two of words.
enum class Codes : std::uint8_t { bytes, words };

// Six rows of codes times C panels.
template <Codes kCodes, int C>
AOQ_INLINE void multiply(const std::uint8_t* rows, std::int64_t pitch, const std::byte* panels, std::int64_t steps,
                         __m512i (&sum)[kRows][C]) {
  const std::int64_t panel_bytes = steps * 64;
  const std::uint8_t* second = rows + 3 * pitch;
#pragma GCC unroll 1
  for (std::int64_t i = 0; i < steps; ++i, panels += 64, rows += 4, second += 4) {
    __m512i w[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) w[c] = _mm512_load_si512(panels + c * panel_bytes);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const std::uint8_t* from = (r < 3 ? rows : second) + r % 3 * pitch;
      const __m512i x = _mm512_set1_epi32(*reinterpret_cast<const AnyInt32*>(from));
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        if constexpr (kCodes == Codes::bytes) {
          sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], x, w[c]);
        } else {
          sum[r][c] = _mm512_dpwssd_epi32(sum[r][c], x, w[c]);
        }
        asm volatile("" : "+v"(sum[r][c]));
      }
    }
  }
}

// The rows of a tile and what their scores are made with.
struct Tile {
  const std::uint8_t* query;  // [6][depth]
  const float* factors;       // [6]
  std::int64_t rows;          // 1 to 6
  const float* mask;
  std::int64_t mask_offsets[kRows];
  std::int64_t mask_column;
};

template <Part kPart>
AOQ_INLINE __m512 score_of(const Tile& t, int r, __m512 x, std::int64_t at, __mmask16 exist) {
  const __m512 factor = _mm512_set1_ps(t.factors[r]);
  if (t.mask == nullptr) return _mm512_mul_ps(x, factor);
  const float* mask = t.mask + t.mask_offsets[r];
  if (t.mask_column == 0) return _mm512_fmadd_ps(x, factor, _mm512_set1_ps(*mask));
  if constexpr (kPart == Part::whole) return _mm512_fmadd_ps(x, factor, _mm512_loadu_ps(mask + at));
  return _mm512_fmadd_ps(x, factor, _mm512_maskz_loadu_ps(exist, mask + at));
}

template <Part kPart>
AOQ_INLINE void finish_scores(const Scratch& s, const Tile& t, const __m512i* sums, std::int64_t at, __mmask16 exist,
                              __m512* max) {
  const __m512 scale = _mm512_load_ps(s.key_scales + at);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    __m512 x = score_of<kPart>(t, r, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), scale), at, exist);
    if constexpr (kPart == Part::cut) x = _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), exist, x);
    max[r] = _mm512_max_ps(x, max[r]);
    _mm512_store_ps(s.scores + r * s.columns + at, x);
  }
}

// Scores of 16 * C columns from `column` on; those behind the last column become -infinity.
template <int C>
AOQ_APART void score_panels(const AttentionDims& d, const Scratch& s, const Tile& t, std::int64_t column, __m512* max) {
  __m512i sum[kRows][C];
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    const __m512i start = _mm512_load_si512(s.key_starts + column + 16 * c);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) sum[r][c] = start;
  }
  multiply<Codes::bytes, C>(t.query, s.depth, s.keys + column * s.depth, s.depth / 4, sum);
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    const std::int64_t at = column + 16 * c;
    __m512i of_panel[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) of_panel[r] = sum[r][c];
    if (at + 16 <= d.columns) {
      finish_scores<Part::whole>(s, t, of_panel, at, 0xffff, max);
    } else {
      finish_scores<Part::cut>(s, t, of_panel, at, first_16(d.columns - at), max);
    }
  }
}

void score_tile(const AttentionDims& d, const Scratch& s, const Tile& t, __m512* max) {
  for (int r = 0; r < kRows; ++r) max[r] = _mm512_set1_ps(-__builtin_inff());
  std::int64_t column = 0;
  for (; column + 16 * kPanels <= s.columns; column += 16 * kPanels) score_panels<kPanels>(d, s, t, column, max);
  const std::int64_t left = (s.columns - column) / 16;
  if (left == 3) score_panels<3>(d, s, t, column, max);
  if (left == 2) score_panels<2>(d, s, t, column, max);
  if (left == 1) score_panels<1>(d, s, t, column, max);
}

// exp(score - max) * levels as codes.
AOQ_INLINE __m512i weights_of(const float* scores, F32x16 max, __m512 levels) {
  const F32x16 e = math::exp_weight_fn(F32x16(_mm512_load_ps(scores)) - max);
  return _mm512_cvtps_epi32(_mm512_mul_ps(e.v, levels));
}

// Two rows of weights in step, and 1 / their sums.
AOQ_APART void weigh_rows(const float* scores, std::int64_t columns, const float* top, float levels,
                          std::int16_t* weights, float* inverse) {
  const F32x16 max[2] = {F32x16(top[0]), F32x16(top[1])};
  __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (std::int64_t i = 0; i < columns; i += 16) {
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      const __m512i code = weights_of(scores + r * columns + i, max[r], _mm512_set1_ps(levels));
      sum[r] = _mm512_add_epi32(sum[r], code);
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights + r * columns + i), _mm512_cvtepi32_epi16(code));
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < 2; ++r) inverse[r] = 1.0f / static_cast<float>(_mm512_reduce_add_epi32(sum[r]));
}

// Where a tile's results go.
struct Out {
  void* at;
  std::int64_t pitch;    // elements from row to row
  const float* inverse;  // [6], of the sums of weights
  bool is_float;
  __m512 inv_scale, lo, hi;
  __m512i zero_point;
};

AOQ_INLINE void store_results(const Out& out, __m512 y, std::int64_t at, __mmask16 exist) {
  if (out.is_float) return _mm512_mask_storeu_ps(static_cast<float*>(out.at) + at, exist, y);
  __m512 v = _mm512_max_ps(_mm512_mul_ps(y, out.inv_scale), out.lo);
  v = _mm512_min_ps(v, out.hi);
  const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(v), out.zero_point);
  _mm_mask_storeu_epi8(static_cast<std::byte*>(out.at) + at, exist, _mm512_cvtepi32_epi8(code));
}

template <int C>
AOQ_APART void mix_panels(const AttentionDims& d, const Scratch& s, std::int64_t rows, std::int64_t column,
                          const Out& out) {
  __m512i sum[kRows][C];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) sum[r][c] = _mm512_setzero_si512();
  }
  multiply<Codes::words, C>(reinterpret_cast<const std::uint8_t*>(s.weights), 2 * s.columns,
                            s.values + 2 * column * s.columns, s.columns / 2, sum);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    const __m512 inverse = _mm512_set1_ps(out.inverse[r]);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const std::int64_t at = column + 16 * c;
      const __m512 scale = _mm512_load_ps(s.value_scales + at);
      const __m512 y = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][c]), scale), inverse);
      store_results(out, y, r * out.pitch + at, first_16(min_of(d.width - at, 16)));
    }
  }
}

void mix_tile(const AttentionDims& d, const Scratch& s, std::int64_t rows, const Out& out) {
  std::int64_t column = 0;
  for (; column + 16 * kPanels <= s.width; column += 16 * kPanels) mix_panels<kPanels>(d, s, rows, column, out);
  const std::int64_t left = (s.width - column) / 16;
  if (left == 3) mix_panels<3>(d, s, rows, column, out);
  if (left == 2) mix_panels<2>(d, s, rows, column, out);
  if (left == 1) mix_panels<1>(d, s, rows, column, out);
}

Out out_of(const AttentionPlan& plan) {
  const QuantizeParams& q = plan.codes;
  return {.at = nullptr,
          .pitch = plan.dims.heads * plan.dims.width,
          .inverse = nullptr,
          .is_float = !plan.gives_codes,
          .inv_scale = _mm512_set1_ps(q.inv_scale),
          .lo = _mm512_set1_ps(static_cast<float>(q.qmin - q.zero_point)),
          .hi = _mm512_set1_ps(static_cast<float>(q.qmax - q.zero_point)),
          .zero_point = _mm512_set1_epi32(q.zero_point)};
}

// Codes of 16 queries from `row` on and their factors. In place of those behind the last row stands the last one; their
// results go nowhere.
template <Part kPart>
void quantize_queries(const AttentionPlan& plan, const AttentionUnit& u, std::int64_t row, std::uint8_t* query,
                      float* factors) {
  const AttentionDims& d = plan.dims;
  const std::int64_t pitch = d.heads * d.depth, depth = (d.depth + 3) / 4 * 4;
  const Lines lines(u.q + row * pitch, pitch, u.rows - row);
  const LineSteps steps(largest_of<kPart>(lines, nullptr, d.depth));
  for (std::int64_t r = 0; r < 16; ++r) {
    for (std::int64_t i = 0; i < d.depth; i += 16) {
      const __m128i codes =
          _mm_xor_si128(line_codes<kPart>(lines.at[r], nullptr, i, d.depth, steps.inverses[r]), _mm_set1_epi8(-128));
      if constexpr (kPart == Part::whole) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(query + r * depth + i), codes);
      } else {
        _mm_mask_storeu_epi8(query + r * depth + i, first_16(min_of(depth - i, 16)), codes);
      }
    }
  }
  __m512 all = _mm512_load_ps(steps.steps);
  if (plan.scores.has_scale) all = _mm512_mul_ps(all, _mm512_set1_ps(plan.scores.scale));
  if (plan.scores.has_divisor) all = _mm512_div_ps(all, _mm512_set1_ps(plan.scores.divisor));
  _mm512_store_ps(factors, all);
}

// Rows [row, row + 6) of a unit, whose queries are codes.
void run_tile(const AttentionPlan& plan, const AttentionUnit& u, std::int64_t row, const Scratch& s, Out& out) {
  const AttentionDims& d = plan.dims;
  Tile t;
  t.query = s.query + row % kVnniQueries * s.depth;
  t.factors = s.factors + row % kVnniQueries;
  t.rows = min_of(u.rows - row, kRows);
  t.mask = u.mask == nullptr ? nullptr : u.mask + row * d.mask_row;
  t.mask_column = d.mask_column;
  for (std::int64_t r = 0; r < kRows; ++r) t.mask_offsets[r] = min_of(r, t.rows - 1) * d.mask_row;
  __m512 max[kRows];
  float top[kRows], inverse[kRows];
  score_tile(d, s, t, max);
  for (int r = 0; r < kRows; ++r) top[r] = _mm512_reduce_max_ps(max[r]);
  for (int r = 0; r < kRows; r += 2) {
    weigh_rows(s.scores + r * s.columns, s.columns, top + r, static_cast<float>(plan.levels), s.weights + r * s.columns,
               inverse + r);
  }
  out.inverse = inverse;
  mix_tile(d, s, t.rows, out);
}

template <Part kPart>
void run_unit(const AttentionPlan& plan, const AttentionUnit& u, void* result, std::byte* scratch) {
  const AttentionDims& d = plan.dims;
  const Scratch s(d, scratch);
  find_mean(d, u.k, s);
  for (std::int64_t column = 0; column < d.columns; column += 16) pack_key_panel<kPart>(d, u.k, column, s);
  pack_values(d, u.v, s);
  Out out = out_of(plan);
  for (std::int64_t row = 0; row < u.rows; row += kRows) {
    for (std::int64_t r = 0; row % kVnniQueries == 0 && r < kVnniQueries && row + r < u.rows; r += 16) {
      quantize_queries<kPart>(plan, u, row + r, s.query + r * s.depth, s.factors + r);
    }
    const std::int64_t at = u.out + row * out.pitch;
    out.at = static_cast<std::byte*>(result) + (out.is_float ? 4 * at : at);
    run_tile(plan, u, row, s, out);
  }
}

}  // namespace

void run_attention_avx512_vnni(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t begin,
                               std::int64_t end, std::byte* scratch) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    if (plan.dims.depth % 16 == 0) {
      run_unit<Part::whole>(plan, attention_unit(plan, args, unit), args.out, scratch);
    } else {
      run_unit<Part::cut>(plan, attention_unit(plan, args, unit), args.out, scratch);
    }
  }
}

}  // namespace aoq::cpu
