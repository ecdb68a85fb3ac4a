// The f32 micro-kernel: up to 6 rows x 16 columns of fused multiply-adds, for AVX2 translation units only.
//
// A row is read through a pointer per tap, so a convolution needs no im2col copy. The sums continue from and go back to
// an accumulator tile in memory: blocks of K give the same chain of operations as one long loop.
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
  bool is_first;  // start from +0 instead of the accumulators in memory
};

template <int kRows, int kHalves>
void multiply_tile_f32(const TileRows& x, const float* w, float* acc) {
  __m256 sum[kRows][kHalves];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      sum[r][h] = x.is_first ? _mm256_setzero_ps() : _mm256_load_ps(acc + 16 * r + 8 * h);
    }
  }
  for (std::int64_t tap = 0; tap < x.taps; ++tap) {
    const float* row[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) row[r] = x.rows[tap * kTileRows + r] + x.offset;
#pragma GCC unroll 2
    for (std::int64_t i = 0; i < x.length; ++i, w += 16) {
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
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_ps(acc + 16 * r + 8 * h, sum[r][h]);
  }
}

using MultiplyTileF32 = void (*)(const TileRows&, const float*, float*);

inline MultiplyTileF32 tile_f32_of(std::int64_t rows, std::int64_t columns) {
  constexpr MultiplyTileF32 kHalf[] = {multiply_tile_f32<1, 1>, multiply_tile_f32<2, 1>, multiply_tile_f32<3, 1>,
                                       multiply_tile_f32<4, 1>, multiply_tile_f32<5, 1>, multiply_tile_f32<6, 1>};
  constexpr MultiplyTileF32 kFull[] = {multiply_tile_f32<1, 2>, multiply_tile_f32<2, 2>, multiply_tile_f32<3, 2>,
                                       multiply_tile_f32<4, 2>, multiply_tile_f32<5, 2>, multiply_tile_f32<6, 2>};
  return columns > 8 ? kFull[rows - 1] : kHalf[rows - 1];
}

inline void zero_floats(float* p, std::int64_t n) {
  __builtin_memset(p, 0, static_cast<std::size_t>(n) * sizeof(float));
}

// Where an accumulator tile goes: the pointers are those of its first element, bias of its first channel.
struct TargetF32 {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t pitch;
  const float* bias;
  const float* residual;
  float* out;
};

inline F32x8 clamped_or_activated(const EpilogueF32& e, F32x8 y) {
  if (e.activation.kind == Activation::none) return y;
  if (e.activation.kind == Activation::clamp) return math::clamp_fn(y, F32x8(e.activation.a), F32x8(e.activation.b));
  return apply_activation_x8(e.activation, y);
}

// Any columns, any epilogue.
__attribute__((noinline)) void store_any_tile_f32(const EpilogueF32& e, const TargetF32& target, const float* acc) {
  for (std::int64_t half = 0; half < 2; ++half) {
    std::int64_t columns = target.columns - 8 * half;
    if (columns <= 0) return;
    F32x8 bias = e.has_bias ? load_first(target.bias + 8 * half, columns) : F32x8(0.0f);
    for (std::int64_t row = 0; row < target.rows; ++row) {
      std::int64_t at = row * target.pitch + 8 * half;
      F32x8 y(_mm256_load_ps(acc + 16 * row + 8 * half));
      if (e.has_bias) y = y + bias;
      if (e.has_residual) y = y + load_first(target.residual + at, columns);
      store_first(target.out + at, clamped_or_activated(e, y), columns);
    }
  }
}

// Whole panels with nothing or a clamp behind the sum. Without a bias it must not be added as 0: -0 + 0 is +0.
template <bool kBias, bool kResidual>
void store_plain_tile_f32(const EpilogueF32& e, const TargetF32& target, const float* acc) {
  bool has_clamp = e.activation.kind == Activation::clamp;
  F32x8 lo(has_clamp ? e.activation.a : -__builtin_inff());
  F32x8 hi(has_clamp ? e.activation.b : __builtin_inff());
  F32x8 bias[2] = {F32x8(0.0f), F32x8(0.0f)};
  if (kBias) {
    bias[0] = load(target.bias);
    bias[1] = load(target.bias + 8);
  }
  for (std::int64_t row = 0; row < target.rows; ++row) {
    for (std::int64_t half = 0; half < 2; ++half) {
      std::int64_t at = row * target.pitch + 8 * half;
      F32x8 y(_mm256_load_ps(acc + 16 * row + 8 * half));
      if (kBias) y = y + bias[half];
      if (kResidual) y = y + load(target.residual + at);
      // A clamp to infinities changes no value.
      store(target.out + at, F32x8(_mm256_min_ps(hi.v, _mm256_max_ps(lo.v, y.v))));
    }
  }
}

inline void store_tile_f32(const EpilogueF32& e, const TargetF32& target, const float* acc) {
  bool is_plain = e.activation.kind == Activation::none || e.activation.kind == Activation::clamp;
  if (target.columns != 16 || !is_plain) return store_any_tile_f32(e, target, acc);
  if (e.has_bias) {
    if (e.has_residual) return store_plain_tile_f32<true, true>(e, target, acc);
    return store_plain_tile_f32<true, false>(e, target, acc);
  }
  if (e.has_residual) return store_plain_tile_f32<false, true>(e, target, acc);
  return store_plain_tile_f32<false, false>(e, target, acc);
}

}  // namespace
}  // namespace aoq::cpu
