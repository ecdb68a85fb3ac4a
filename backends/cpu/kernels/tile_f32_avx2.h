// The f32 micro-kernel: up to 6 rows x 16 columns of fused multiply-adds, for AVX2 translation units only.
//
// A row is read through a pointer per tap, so a convolution needs no im2col copy. The sums continue from and go back to
// an accumulator tile in memory: blocks of K give the same chain of operations as one long loop. Where nothing but a
// clamp stands behind the sum, the last block's go straight to the output.
#pragma once

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kTileRows = 6;
// K of one block: its panel of 16 columns is 32 KB, and stays near while the row tiles pass.
constexpr std::int64_t kBlockK = 512;

// `taps` runs of `length` values; run t of row r starts at rows[t * kTileRows + r] + offset.
struct TileRows {
  const float* const* rows;
  std::int64_t taps;
  std::int64_t offset;
  std::int64_t length;
  const float* ahead;  // half as many floats as the weights have, that are needed soon
  bool is_first;       // start from +0 instead of the accumulators in memory
};

// Where a tile's finished sums go, and what is done to them on the way. The pointers are those of its first element,
// bias of its first channel; absent parts are null. A clamp to infinities changes no value.
struct ClampedTarget {
  const float* bias;
  const float* residual;
  float* out;
  std::int64_t pitch;
  float lo, hi;
};

// Without a bias none is added as 0: -0 + 0 is +0.
template <int kRows, int kHalves>
inline void store_clamped(const ClampedTarget& target, __m256 (&sum)[kRows][kHalves]) {
  if (target.bias != nullptr) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      __m256 bias = _mm256_loadu_ps(target.bias + 8 * h);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) sum[r][h] = _mm256_add_ps(sum[r][h], bias);
    }
  }
  if (target.residual != nullptr) {
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        sum[r][h] = _mm256_add_ps(sum[r][h], _mm256_loadu_ps(target.residual + r * target.pitch + 8 * h));
      }
    }
  }
  __m256 lo = _mm256_set1_ps(target.lo);
  __m256 hi = _mm256_set1_ps(target.hi);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      _mm256_storeu_ps(target.out + r * target.pitch + 8 * h, _mm256_min_ps(hi, _mm256_max_ps(lo, sum[r][h])));
    }
  }
}

// `target` is null while the sums are not finished, or where store_tile_f32 finishes them.
template <int kRows, int kHalves>
void multiply_tile_f32(const TileRows& x, const float* w, float* acc, const ClampedTarget* target) {
  __m256 sum[kRows][kHalves];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      sum[r][h] = x.is_first ? _mm256_setzero_ps() : _mm256_load_ps(acc + 16 * r + 8 * h);
    }
  }
  const float* ahead = x.ahead;
  for (std::int64_t tap = 0; tap < x.taps; ++tap) {
    const float* row[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) row[r] = x.rows[tap * kTileRows + r] + x.offset;
#pragma GCC unroll 2
    for (std::int64_t i = 0; i < x.length; ++i, w += 16, ahead += 8) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
      __m256 weight[kHalves];
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) weight[h] = _mm256_load_ps(w + 8 * h);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        __m256 value = _mm256_broadcast_ss(row[r] + i);
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) sum[r][h] = _mm256_fmadd_ps(value, weight[h], sum[r][h]);
      }
    }
  }
  if (target != nullptr) return store_clamped(*target, sum);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_ps(acc + 16 * r + 8 * h, sum[r][h]);
  }
}

using MultiplyTileF32 = void (*)(const TileRows&, const float*, float*, const ClampedTarget*);

inline MultiplyTileF32 tile_f32_of(std::int64_t rows, std::int64_t columns) {
  static constexpr MultiplyTileF32 kHalf[] = {multiply_tile_f32<1, 1>, multiply_tile_f32<2, 1>,
                                              multiply_tile_f32<3, 1>, multiply_tile_f32<4, 1>,
                                              multiply_tile_f32<5, 1>, multiply_tile_f32<6, 1>};
  static constexpr MultiplyTileF32 kFull[] = {multiply_tile_f32<1, 2>, multiply_tile_f32<2, 2>,
                                              multiply_tile_f32<3, 2>, multiply_tile_f32<4, 2>,
                                              multiply_tile_f32<5, 2>, multiply_tile_f32<6, 2>};
  return columns > 8 ? kFull[rows - 1] : kHalf[rows - 1];
}

// Where accumulators in memory go: the pointers are those of the first element, bias of the first channel.
struct TargetF32 {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t pitch;
  const float* bias;
  const float* residual;
  float* out;
};

// Whether the tiles write whole vectors of clamped sums to the target themselves.
inline bool is_clamped(const EpilogueF32& e, std::int64_t columns) {
  bool is_plain = e.activation.kind == Activation::none || e.activation.kind == Activation::clamp;
  return is_plain && (columns == 16 || columns == 8);
}

// Rows from `row` on of a target for which is_clamped() holds.
inline ClampedTarget clamped_target(const EpilogueF32& e, const TargetF32& target, std::int64_t row) {
  bool has_clamp = e.activation.kind == Activation::clamp;
  return {.bias = target.bias,
          .residual = target.residual == nullptr ? nullptr : target.residual + row * target.pitch,
          .out = target.out + row * target.pitch,
          .pitch = target.pitch,
          .lo = has_clamp ? e.activation.a : -__builtin_inff(),
          .hi = has_clamp ? e.activation.b : __builtin_inff()};
}

// Any columns, any activation: sums [rows][16] to the target. Without a bias none is added as 0: -0 + 0 is +0.
inline void store_tile_f32(const EpilogueF32& e, const TargetF32& target, const float* acc) {
  for (std::int64_t half = 0; half < 2; ++half) {
    std::int64_t columns = target.columns - 8 * half;
    if (columns <= 0) return;
    F32x8 bias = target.bias != nullptr ? load_first(target.bias + 8 * half, columns) : F32x8(0.0f);
    for (std::int64_t row = 0; row < target.rows; ++row) {
      std::int64_t at = row * target.pitch + 8 * half;
      F32x8 y(_mm256_load_ps(acc + 16 * row + 8 * half));
      if (target.bias != nullptr) y = y + bias;
      if (target.residual != nullptr) y = y + load_first(target.residual + at, columns);
      store_first(target.out + at, apply_activation_x8(e.activation, y), columns);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
