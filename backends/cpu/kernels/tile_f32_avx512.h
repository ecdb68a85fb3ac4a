// The f32 micro-kernel of AVX-512: up to 6 rows x 4 panels of 16 columns, for AVX-512 translation units only.
//
// As in tile_f32_avx2.h a row is read through a pointer per run of values, and the sums continue from and go back to an
// accumulator tile in memory, so blocks of K give the same chain of operations as one long loop. Twenty-four sums are
// enough to keep two multiply-add units busy, and a step loads only ten operands for them.
#pragma once

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"

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
  bool has_clamp;
  float lo, hi;
};

// The sums of one row: whole panels, and the first half of one more where it has no more channels.
template <int kFull, int kHalf>
struct RowSums {
  __m512 full[kFull + 1];
  __m256 half;
};

// Without a bias none is added as 0: -0 + 0 is +0.
template <int kRows, int kFull, int kHalf>
inline void add_bias(const TargetTileF32& target, RowSums<kFull, kHalf> (&sum)[kRows]) {
  __mmask16 last = first_16(target.last_columns);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const float* bias = target.bias;
#pragma GCC unroll 4
    for (int p = 0; p < kFull; ++p, bias += 16) {
      bool is_last = p + 1 == kFull + kHalf;
      __m512 other = is_last ? _mm512_maskz_loadu_ps(last, bias) : _mm512_loadu_ps(bias);
      sum[r].full[p] = _mm512_add_ps(sum[r].full[p], other);
    }
    if constexpr (kHalf != 0) {
      sum[r].half = _mm256_add_ps(sum[r].half, _mm256_maskz_loadu_ps(static_cast<__mmask8>(last), bias));
    }
  }
}

template <int kRows, int kFull, int kHalf>
inline void add_residual(const TargetTileF32& target, RowSums<kFull, kHalf> (&sum)[kRows]) {
  __mmask16 last = first_16(target.last_columns);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const float* residual = target.residual + r * target.pitch;
#pragma GCC unroll 4
    for (int p = 0; p < kFull; ++p, residual += 16) {
      bool is_last = p + 1 == kFull + kHalf;
      __m512 other = is_last ? _mm512_maskz_loadu_ps(last, residual) : _mm512_loadu_ps(residual);
      sum[r].full[p] = _mm512_add_ps(sum[r].full[p], other);
    }
    if constexpr (kHalf != 0) {
      __m256 other = _mm256_maskz_loadu_ps(static_cast<__mmask8>(last), residual);
      sum[r].half = _mm256_add_ps(sum[r].half, other);
    }
  }
}

template <int kRows, int kFull, int kHalf>
inline void clamp_sums(const TargetTileF32& target, RowSums<kFull, kHalf> (&sum)[kRows]) {
  __m512 lo = _mm512_set1_ps(target.lo);
  __m512 hi = _mm512_set1_ps(target.hi);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kFull; ++p) sum[r].full[p] = _mm512_min_ps(hi, _mm512_max_ps(lo, sum[r].full[p]));
    if constexpr (kHalf != 0) {
      __m256 raised = _mm256_max_ps(_mm512_castps512_ps256(lo), sum[r].half);
      sum[r].half = _mm256_min_ps(_mm512_castps512_ps256(hi), raised);
    }
  }
}

template <int kRows, int kFull, int kHalf>
inline void store_sums(const TargetTileF32& target, RowSums<kFull, kHalf> (&sum)[kRows]) {
  __mmask16 last = first_16(target.last_columns);
  bool is_whole = target.last_columns == (kHalf != 0 ? 8 : 16);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* out = target.out + r * target.pitch;
#pragma GCC unroll 4
    for (int p = 0; p < kFull; ++p, out += 16) {
      if (p + 1 < kFull + kHalf || is_whole) {
        _mm512_storeu_ps(out, sum[r].full[p]);
      } else {
        _mm512_mask_storeu_ps(out, last, sum[r].full[p]);
      }
    }
    if constexpr (kHalf != 0) _mm256_mask_storeu_ps(out, static_cast<__mmask8>(last), sum[r].half);
  }
}

template <int kRows, int kFull, int kHalf>
inline void finish_sums(const TargetTileF32& target, RowSums<kFull, kHalf> (&sum)[kRows]) {
  if (target.bias != nullptr) add_bias(target, sum);
  if (target.residual != nullptr) add_residual(target, sum);
  if (target.has_clamp) clamp_sums(target, sum);
  store_sums(target, sum);
}

// Panels kFull + kHalf, of which the last has at most 8 columns with kHalf. `target` is null while the sums are not
// finished, or where finish_tile_f32 finishes them.
template <int kRows, int kFull, int kHalf>
void multiply_tile_f32(const TileF32& x, const TargetTileF32* target) {
  RowSums<kFull, kHalf> sum[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const float* acc = x.acc + kTileColumns * r;
#pragma GCC unroll 4
    for (int p = 0; p < kFull; ++p) sum[r].full[p] = x.is_first ? _mm512_setzero_ps() : _mm512_load_ps(acc + 16 * p);
    if constexpr (kHalf != 0) sum[r].half = x.is_first ? _mm256_setzero_ps() : _mm256_load_ps(acc + 16 * kFull);
  }
  const float* w = x.weights;
  const float* ahead = x.ahead;
  for (std::int64_t run = 0; run < x.runs; ++run) {
    const float* row[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) row[r] = x.rows[run * kTileRows + r] + x.offset;
#pragma GCC unroll 1
    for (std::int64_t i = 0; i < x.length; ++i, w += 16, ahead += 16) {
      __m512 weight[kFull + 1];
#pragma GCC unroll 5
      for (int p = 0; p < kFull; ++p) weight[p] = _mm512_load_ps(w + p * x.panel_pitch);
      __m256 half_weight;
      if constexpr (kHalf != 0) half_weight = _mm256_load_ps(w + kFull * x.panel_pitch);
      _mm_prefetch(ahead, _MM_HINT_T1);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        __m512 value = _mm512_set1_ps(row[r][i]);
#pragma GCC unroll 4
        for (int p = 0; p < kFull; ++p) sum[r].full[p] = _mm512_fmadd_ps(value, weight[p], sum[r].full[p]);
        if constexpr (kHalf != 0) {
          sum[r].half = _mm256_fmadd_ps(_mm512_castps512_ps256(value), half_weight, sum[r].half);
        }
      }
    }
  }
  if (target != nullptr) return finish_sums(*target, sum);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    float* acc = x.acc + kTileColumns * r;
#pragma GCC unroll 4
    for (int p = 0; p < kFull; ++p) _mm512_store_ps(acc + 16 * p, sum[r].full[p]);
    if constexpr (kHalf != 0) _mm256_store_ps(acc + 16 * kFull, sum[r].half);
  }
}

using MultiplyTileF32 = void (*)(const TileF32&, const TargetTileF32*);

// By rows - 1.
struct TilesF32 {
  MultiplyTileF32 of[kTileRows];
};

template <int kFull, int kHalf>
constexpr TilesF32 tiles_f32() {
  return {{multiply_tile_f32<1, kFull, kHalf>, multiply_tile_f32<2, kFull, kHalf>, multiply_tile_f32<3, kFull, kHalf>,
           multiply_tile_f32<4, kFull, kHalf>, multiply_tile_f32<5, kFull, kHalf>, multiply_tile_f32<6, kFull, kHalf>}};
}

// `panels` of which the last has `last_columns` columns.
inline MultiplyTileF32 tile_f32_of(std::int64_t rows, std::int64_t panels, std::int64_t last_columns) {
  static constexpr TilesF32 kFull[] = {tiles_f32<1, 0>(), tiles_f32<2, 0>(), tiles_f32<3, 0>(), tiles_f32<4, 0>()};
  static constexpr TilesF32 kHalf[] = {tiles_f32<0, 1>(), tiles_f32<1, 1>(), tiles_f32<2, 1>(), tiles_f32<3, 1>()};
  return (last_columns > 8 ? kFull : kHalf)[panels - 1].of[rows - 1];
}

// Whether the tiles may write their sums to the target themselves.
inline bool is_clamped(const EpilogueF32& e) {
  return e.activation.kind == Activation::none || e.activation.kind == Activation::clamp;
}

// The parts of an epilogue's target that no place in it changes; the pointers are null.
inline TargetTileF32 target_of(const EpilogueF32& e, std::int64_t pitch) {
  return {.bias = nullptr,
          .residual = nullptr,
          .out = nullptr,
          .pitch = pitch,
          .last_columns = 16,
          .has_clamp = e.activation.kind == Activation::clamp,
          .lo = e.activation.a,
          .hi = e.activation.b};
}

// Any activation: `rows` rows of sums in `acc` to the target. The target's clamp is not looked at.
inline void finish_tile_f32(const EpilogueF32& e, const TargetTileF32& target, std::int64_t rows, std::int64_t panels,
                            const float* acc) {
  for (std::int64_t panel = 0; panel < panels; ++panel) {
    std::int64_t at = 16 * panel;
    std::int64_t count = panel + 1 < panels ? 16 : target.last_columns;
    F32x16 bias = target.bias != nullptr ? load_first_16(target.bias + at, count) : F32x16(0.0f);
    for (std::int64_t row = 0; row < rows; ++row) {
      F32x16 y(_mm512_load_ps(acc + kTileColumns * row + at));
      if (target.bias != nullptr) y = y + bias;
      if (target.residual != nullptr) y = y + load_first_16(target.residual + row * target.pitch + at, count);
      store_first_16(target.out + row * target.pitch + at, apply_activation_to(e.activation, y), count);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
