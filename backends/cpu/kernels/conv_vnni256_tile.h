// The tile of conv_vnni256.h: up to 6 pixels x 16 channels. 12 accumulators, 2 weights and a row's codes are 15 of the
// 16 registers. In translation units of AVX-VNNI (VEX encoding) and AVX512-VNNI (EVEX).
#pragma once

#include "backends/cpu/kernels/conv_panels_avx2.h"
#include "backends/cpu/kernels/conv_vnni256.h"

namespace aoq::cpu {
namespace {

AOQ_INLINE void add_products(__m256i& sum, __m256i codes, __m256i weights) {
#if defined(__AVX512VNNI__)
  sum = _mm256_dpbusd_epi32(sum, codes, weights);
#else
  sum = _mm256_dpbusd_avx_epi32(sum, codes, weights);
#endif
  asm volatile("" : "+x"(sum));
}

struct Tile {
  static constexpr int kRows = kVnni256TileRows;

  const std::uint8_t* rows;
  std::int64_t pitch;
  const std::int32_t* starts;  // of the 16 sums
  const std::byte* weights;
  std::int64_t steps;
  Ahead ahead;

  Tile(const ConvPanelsPlan& plan, const std::byte* panel, const std::int32_t* starts_of_sums, std::byte*)
      : pitch(plan.pitch), starts(starts_of_sums), weights(panel + 64), steps(plan.steps) {}

  template <int R, int kHalves>
  AOQ_INLINE void multiply(__m256i (&sum)[R][kHalves]) const {
    // One sum would wait for itself.
    constexpr int kTurns = R == 1 ? 4 : R == 2 ? 2 : 1;
    const std::uint8_t* row[R];
    __m256i turn[kTurns][R][kHalves] = {};
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) row[r] = rows + r * pitch;
    start(starts, turn[0]);
    const std::byte* w = weights;
    std::int64_t step = 0;
    for (; step + kTurns <= steps; step += kTurns, w += 64 * kTurns) {
#pragma GCC unroll 4
      for (int i = 0; i < kTurns; ++i) add_step<R, kHalves>(row, step + i, w + 64 * i, turn[i]);
    }
    for (; kTurns > 1 && step < steps; ++step, w += 64) add_step<R, kHalves>(row, step, w, turn[0]);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        sum[r][h] = turn[0][r][h];
#pragma GCC unroll 4
        for (int i = 1; i < kTurns; ++i) sum[r][h] = _mm256_add_epi32(sum[r][h], turn[i][r][h]);
      }
    }
  }

 private:
  template <int R, int kHalves>
  AOQ_INLINE static void add_step(const std::uint8_t* const (&row)[R], std::int64_t step, const std::byte* w,
                                  __m256i (&sum)[R][kHalves]) {
    __m256i wide[kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) wide[h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32 * h));
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256i codes = word_of(row[r], step);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) add_products(sum[r][h], codes, wide[h]);
    }
  }
};

}  // namespace
}  // namespace aoq::cpu
