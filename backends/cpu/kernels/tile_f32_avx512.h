// The f32 micro-kernel of AVX-512: up to 6 rows x 4 panels of 16 columns, for AVX-512 translation units only.
//
// As in tile_f32_avx2.h a row is read through a pointer per run of values, and the sums continue from and go back to an
// accumulator tile in memory, so blocks of K give the same chain of operations as one long loop. Twenty-four sums are
// enough to keep two multiply-add units busy, and a step loads only ten operands for them.
#pragma once

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kTileRows = 6;
constexpr std::int64_t kTilePanels = 4;
constexpr std::int64_t kTileColumns = 16 * kTilePanels;

// One tile's operands. Run t of row r starts at rows[t * kTileRows + r] + offset.
struct TileF32 {
  const float* const* rows;
  std::int64_t runs;
  std::int64_t offset;
  std::int64_t length;
  const float* weights;      // [runs * length][16] of the first panel
  std::int64_t panel_pitch;  // floats from panel to panel
  const float* ahead;        // runs * length lines that will be wanted soon
  float* acc;                // [6][64]
  bool is_first;             // start from +0 instead of the accumulators in memory
};

// Where a tile's finished sums go, and what is done to them on the way. The pointers are those of its first element,
// bias of its first channel; absent parts are null.
struct TargetTileF32 {
  const float* bias;
  const float* residual;
  float* out;
  std::int64_t pitch;
  std::int64_t last_columns;  // of the last panel, 1 to 16
  float lo, hi;               // a clamp to infinities changes no value
};

inline __mmask16 first_16(std::int64_t n) {
  return static_cast<__mmask16>((1u << n) - 1);
}

// Without a bias none is added as 0: -0 + 0 is +0.
template <int kRows, int kPanels>
inline void store_clamped(const TargetTileF32& target, __m512 (&sum)[kRows][kPanels]) {
  if (target.bias != nullptr) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      __m512 bias = _mm512_loadu_ps(target.bias + 16 * p);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) sum[r][p] = _mm512_add_ps(sum[r][p], bias);
    }
  }
  __mmask16 last = first_16(target.last_columns);
  if (target.residual != nullptr) {
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        const float* residual = target.residual + r * target.pitch + 16 * p;
        __m512 other = p + 1 < kPanels ? _mm512_loadu_ps(residual) : _mm512_maskz_loadu_ps(last, residual);
        sum[r][p] = _mm512_add_ps(sum[r][p], other);
      }
    }
  }
  __m512 lo = _mm512_set1_ps(target.lo);
  __m512 hi = _mm512_set1_ps(target.hi);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) sum[r][p] = _mm512_min_ps(hi, _mm512_max_ps(lo, sum[r][p]));
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    float* out = target.out + r * target.pitch;
#pragma GCC unroll 4
    for (int p = 0; p + 1 < kPanels; ++p) _mm512_storeu_ps(out + 16 * p, sum[r][p]);
    if (target.last_columns == 16) {
      _mm512_storeu_ps(out + 16 * (kPanels - 1), sum[r][kPanels - 1]);
    } else {
      _mm512_mask_storeu_ps(out + 16 * (kPanels - 1), last, sum[r][kPanels - 1]);
    }
  }
}

// `target` is null while the sums are not finished, or where finish_tile_f32 finishes them.
template <int kRows, int kPanels>
void multiply_tile_f32(const TileF32& x, const TargetTileF32* target) {
  __m512 sum[kRows][kPanels];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      sum[r][p] = x.is_first ? _mm512_setzero_ps() : _mm512_load_ps(x.acc + kTileColumns * r + 16 * p);
    }
  }
  const float* w = x.weights;
  const float* ahead = x.ahead;
  for (std::int64_t run = 0; run < x.runs; ++run) {
    const float* row[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) row[r] = x.rows[run * kTileRows + r] + x.offset;
#pragma GCC unroll 1
    for (std::int64_t i = 0; i < x.length; ++i, w += 16, ahead += 16) {
      __m512 weight[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) weight[p] = _mm512_load_ps(w + p * x.panel_pitch);
      _mm_prefetch(ahead, _MM_HINT_T1);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        __m512 value = _mm512_set1_ps(row[r][i]);
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) sum[r][p] = _mm512_fmadd_ps(value, weight[p], sum[r][p]);
      }
    }
  }
  if (target != nullptr) return store_clamped(*target, sum);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) _mm512_store_ps(x.acc + kTileColumns * r + 16 * p, sum[r][p]);
  }
}

using MultiplyTileF32 = void (*)(const TileF32&, const TargetTileF32*);

template <int kPanels>
inline MultiplyTileF32 tile_f32_of_rows(std::int64_t rows) {
  constexpr MultiplyTileF32 kRows[] = {multiply_tile_f32<1, kPanels>, multiply_tile_f32<2, kPanels>,
                                       multiply_tile_f32<3, kPanels>, multiply_tile_f32<4, kPanels>,
                                       multiply_tile_f32<5, kPanels>, multiply_tile_f32<6, kPanels>};
  return kRows[rows - 1];
}

inline MultiplyTileF32 tile_f32_of(std::int64_t rows, std::int64_t panels) {
  constexpr MultiplyTileF32 (*kPanels[])(std::int64_t) = {tile_f32_of_rows<1>, tile_f32_of_rows<2>, tile_f32_of_rows<3>,
                                                          tile_f32_of_rows<4>};
  return kPanels[panels - 1](rows);
}

// Whether the tiles may write their sums to the target themselves.
inline bool is_clamped(const EpilogueF32& e) {
  return e.activation.kind == Activation::none || e.activation.kind == Activation::clamp;
}

// Any activation: `rows` rows of sums in `acc` to the target. The target's clamp is not looked at.
inline void finish_tile_f32(const EpilogueF32& e, const TargetTileF32& target, std::int64_t rows, std::int64_t panels,
                            const float* acc) {
  std::int64_t columns = 16 * (panels - 1) + target.last_columns;
  for (std::int64_t at = 0; at < columns; at += 8) {
    std::int64_t count = min_of(columns - at, 8);
    F32x8 bias = target.bias != nullptr ? load(target.bias + at) : F32x8(0.0f);
    for (std::int64_t row = 0; row < rows; ++row) {
      F32x8 y(_mm256_load_ps(acc + kTileColumns * row + at));
      if (target.bias != nullptr) y = y + bias;
      if (target.residual != nullptr) y = y + load_first(target.residual + row * target.pitch + at, count);
      store_first(target.out + row * target.pitch + at, apply_activation_x8(e.activation, y), count);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
