// Softmax and layer normalisation sixteen floats at a time: one vector is the 16 virtual lanes of ir/math.h; lanes
// behind the end of a row keep their value.
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/rows_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))

inline F32x16 load_16(const float* p) {
  return F32x16(_mm512_loadu_ps(p));
}
inline void store_16(float* p, F32x16 x) {
  _mm512_storeu_ps(p, x.v);
}

// Calls step(i, left) for each sixteen floats of a row, with `left` a constant 16 but at the end.
template <typename Step>
AOQ_INLINE void for_each_16(std::int64_t n, Step step) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) step(i, std::int64_t{16});
  if (i < n) step(i, n - i);
}
AOQ_INLINE F32x16 load_some(const float* p, std::int64_t left) {
  return left == 16 ? load_16(p) : load_first_16(p, left);
}
AOQ_INLINE void store_some(float* p, F32x16 x, std::int64_t left) {
  if (left == 16) {
    store_16(p, x);
  } else {
    store_first_16(p, x, left);
  }
}
// The lanes that the row has, of two values.
AOQ_INLINE F32x16 first_of(F32x16 x, F32x16 other, std::int64_t left) {
  return left == 16 ? x : F32x16(_mm512_mask_mov_ps(other.v, first_16(left), x.v));
}

inline F32x8 low_half(F32x16 x) {
  return F32x8(_mm512_castps512_ps256(x.v));
}
inline F32x8 high_half(F32x16 x) {
  return F32x8(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.v), 1)));
}
inline float sum_of_lanes(F32x16 x) {
  return combine_lanes(low_half(x), high_half(x), [](F32x8 a, F32x8 b) { return a + b; });
}

// The largest of a row; NaN if one is NaN. The order of maxima changes nothing but which NaN that is.
struct Maximum {
  F32x16 lanes = F32x16(-__builtin_inff());
  __mmask16 nan = 0;

  AOQ_INLINE void take(F32x16 v, std::int64_t left) {
    nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(v.v, v.v, _CMP_UNORD_Q));
    lanes = first_of(F32x16(_mm512_max_ps(lanes.v, v.v)), lanes, left);
  }
  float value() const { return nan != 0 ? __builtin_nanf("") : _mm512_reduce_max_ps(lanes.v); }
};

// The scores of a row, into `out` unless they are those of `x`; returns their maximum.
AOQ_INLINE float score_row(const ScoresF32& s, const float* mask, const RowsF32& row) {
  Maximum max;
  const std::int64_t n = row.columns;
  if (s.is_plain()) {
    for_each_16(n, [&](std::int64_t i, std::int64_t left) { max.take(load_some(row.x + i, left), left); });
    return max.value();
  }
  const F32x16 scale(s.scale), divisor(s.divisor);
  for_each_16(n, [&](std::int64_t i, std::int64_t left) {
    F32x16 v = load_some(row.x + i, left);
    if (s.has_scale) v = v * scale;
    if (s.has_divisor) v = v / divisor;
    if (s.mask != nullptr) v = v + (s.mask_column == 0 ? F32x16(*mask) : load_some(mask + i, left));
    store_some(row.out + i, v, left);
    max.take(v, left);
  });
  return max.value();
}

// The sums of kRows rows in step, as one alone would wait for itself.
template <int kRows, typename Step>
AOQ_INLINE void sum_rows(const float* x, std::int64_t n, float (&sums)[kRows], Step step) {
  F32x16 lanes[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) lanes[r] = F32x16(0.0f);
  for_each_16(n, [&](std::int64_t i, std::int64_t left) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      lanes[r] = first_of(step(lanes[r], load_some(x + r * n + i, left), r), lanes[r], left);
    }
  });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sums[r] = sum_of_lanes(lanes[r]);
}

template <int kRows>
inline void normalize_rows(const math::LayerNormParams& params, const float* x, float* out, std::int64_t n) {
  const auto count = static_cast<float>(n);
  float sums[kRows];
  F32x16 center[kRows], inverse[kRows];
  sum_rows<kRows>(x, n, sums, [](F32x16 lane, F32x16 v, int) { return lane + v; });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) center[r] = F32x16(sums[r] / count);
  sum_rows<kRows>(x, n, sums, [&](F32x16 lane, F32x16 v, int r) {
    const F32x16 d = v - center[r];
    return fma_of(d, d, lane);
  });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    inverse[r] = F32x16(1.0f) / sqrt_of(F32x16(sums[r] / count + params.epsilon));
  }
  for_each_16(n, [&](std::int64_t i, std::int64_t left) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      F32x16 y = (load_some(x + r * n + i, left) - center[r]) * inverse[r];
      if (params.scale != nullptr) y = y * load_some(params.scale + i, left);
      if (params.bias != nullptr) y = y + load_some(params.bias + i, left);
      store_some(out + r * n + i, y, left);
    }
  });
}

}  // namespace

void softmax_scores_f32_avx512(const ScoresF32& scores, const RowsF32& rows) {
  const std::int64_t n = rows.columns;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const float* x = rows.x + row * n;
    float* out = rows.out + row * n;
    const F32x16 max(score_row(scores, scores.mask + row * scores.mask_row, {x, out, 1, n}));
    if (!scores.is_plain()) x = out;
    F32x16 lanes(0.0f);
    for_each_16(n, [&](std::int64_t i, std::int64_t left) {
      const F32x16 e = math::exp_fn(load_some(x + i, left) - max);
      store_some(out + i, e, left);
      lanes = first_of(lanes + e, lanes, left);
    });
    const F32x16 sum(sum_of_lanes(lanes));
    for_each_16(n,
                [&](std::int64_t i, std::int64_t left) { store_some(out + i, load_some(out + i, left) / sum, left); });
  }
}

void layer_norm_f32_avx512(const math::LayerNormParams& params, const RowsF32& rows) {
  const std::int64_t n = rows.columns;
  std::int64_t row = 0;
  for (; row + 4 <= rows.rows; row += 4) normalize_rows<4>(params, rows.x + row * n, rows.out + row * n, n);
  for (; row < rows.rows; ++row) normalize_rows<1>(params, rows.x + row * n, rows.out + row * n, n);
}

}  // namespace aoq::cpu
