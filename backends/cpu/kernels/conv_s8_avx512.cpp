// The tile of conv_s8 for AVX512-VNNI: the rows and packed weights of the AVX2 kernel, `vpdpwssd` on pairs of K. A
// pair's 32 weight bytes are one vector of 16 columns.
#include <immintrin.h>

#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

struct AnyInt32 {
  std::int32_t value;
} __attribute__((packed, may_alias));

template <int R>
inline __attribute__((always_inline)) void add_pair(const TileS16& tile, std::int64_t pair, __m512i (&sum)[R]) {
  const auto* from = reinterpret_cast<const __m256i*>(tile.weights + 32 * pair);
  __m512i w = _mm512_cvtepi8_epi16(_mm256_loadu_si256(from));
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    __m512i x = _mm512_set1_epi32(reinterpret_cast<const AnyInt32*>(tile.a + r * tile.pitch + 2 * pair)->value);
    sum[r] = _mm512_dpwssd_epi32(sum[r], w, x);
    asm volatile("" : "+v"(sum[r]));
  }
}

// Few rows add pairs to several sums in turn: one sum would wait for itself.
template <int R>
void multiply(const TileS16& tile, std::int32_t* acc) {
  constexpr int kTurns = R == 1 ? 4 : R == 2 ? 2 : 1;
  __m512i sum[kTurns][R];
#pragma GCC unroll 4
  for (int t = 0; t < kTurns; ++t) {
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) sum[t][r] = _mm512_setzero_si512();
  }
  std::int64_t pair = 0;
  for (; pair + kTurns <= tile.k_pairs; pair += kTurns) {
#pragma GCC unroll 4
    for (int t = 0; t < kTurns; ++t) add_pair<R>(tile, pair + t, sum[t]);
  }
  for (; pair < tile.k_pairs; ++pair) add_pair<R>(tile, pair, sum[0]);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int t = 1; t < kTurns; ++t) sum[0][r] = _mm512_add_epi32(sum[0][r], sum[t][r]);
    _mm512_storeu_si512(acc + 16 * r, sum[0][r]);
  }
}

}  // namespace

void multiply_s16_avx512(const TileS16& tile, std::int64_t rows, std::int32_t* acc) {
  constexpr void (*kTiles[])(const TileS16&, std::int32_t*) = {multiply<1>, multiply<2>, multiply<3>,
                                                               multiply<4>, multiply<5>, multiply<6>};
  kTiles[rows - 1](tile, acc);
}

}  // namespace aoq::cpu
