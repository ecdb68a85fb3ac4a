// linear_dynamic, AVX512-VNNI: `vpdpbusd` of weights as unsigned bytes and codes of x as signed ones, four elements of
// K at a time. With u = c + offset of the weight (8 of nibbles, 128 of bytes) the sum of a group is
//
//   sum((x - xz) * (c - z)) = start + sum(x * u) - xz * sum(c) - z * sum(x - xz)     start = -offset * sum(x)
//
// whose parts are exact modulo 2^32. For nibbles the third part has sum(u) and the first -8 * sum(x - xz) instead: both
// lack the same 8 for each element.
#include <immintrin.h>

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/narrow_store_avx512.h"

namespace aoq::cpu {
namespace {

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearDynamicArgs* args;
  std::int64_t row, panel;
  std::int64_t panel_step = 1;  // its panels are so far apart
};

// One group of a tile: sums of x * u, and of the codes of each column where they are wanted. Small tiles have a second
// sum of products, as one chain of additions would be the slowest part.
template <int R, int P>
struct Sums {
  static constexpr bool kTwoChains = R * P <= 2;
  __m512i products[R][P];
  __m512i others[R][P];
  __m512i codes[P];
};

template <bool kNibbles, bool kAffine, int R, int P>
constexpr bool kShiftsLate = kNibbles && !kAffine && Sums<R, P>::kTwoChains;

template <int R, int P>
inline __attribute__((always_inline)) void multiply(const std::int8_t* x, std::int64_t pitch, const __m512i (&u)[P],
                                                    __m512i (&sums)[R][P]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    __m512i four = _mm512_set1_epi32(*reinterpret_cast<const AnyInt32*>(x + r * pitch));
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], u[p], four);
      asm volatile("" : "+v"(sums[r][p]));
    }
  }
}

// 64 bytes of codes of each panel, panel_bytes apart: 8 elements of nibbles, 4 of bytes.
template <bool kNibbles, bool kAffine, int R, int P>
inline __attribute__((always_inline)) void multiply_codes(const std::byte* codes, std::int64_t panel_bytes,
                                                          const std::int8_t* x, std::int64_t pitch, Sums<R, P>& sums) {
  const __m512i mask = _mm512_set1_epi8(15), ones = _mm512_set1_epi8(1), top = _mm512_set1_epi8(-128);
  __m512i v[P], low[P], high[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    v[p] = _mm512_loadu_si512(codes + p * panel_bytes);
    low[p] = kNibbles ? _mm512_and_si512(v[p], mask) : _mm512_xor_si512(v[p], top);
    // With a chain of their own, products with high nibbles may be 16 times as large until the group ends.
    if constexpr (kShiftsLate<kNibbles, kAffine, R, P>) {
      high[p] = _mm512_andnot_si512(mask, v[p]);
    } else if constexpr (kNibbles) {
      high[p] = _mm512_and_si512(_mm512_srli_epi16(v[p], 4), mask);
    }
    if constexpr (kAffine && kNibbles) {
      sums.codes[p] = _mm512_dpbusd_epi32(sums.codes[p], _mm512_add_epi8(low[p], high[p]), ones);
    } else if constexpr (kAffine) {
      sums.codes[p] = _mm512_dpbusd_epi32(sums.codes[p], ones, v[p]);
    }
  }
  multiply(x, pitch, low, sums.products);
  if constexpr (kNibbles) multiply(x + 4, pitch, high, Sums<R, P>::kTwoChains ? sums.others : sums.products);
}

template <int R, int P>
inline __attribute__((always_inline)) void begin_group(const Tile& tile, std::int64_t g, Sums<R, P>& sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    __m512i start = _mm512_set1_epi32(tile.args->starts[(tile.row + r) * tile.plan->groups + g]);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      sums.products[r][p] = start;
      if constexpr (Sums<R, P>::kTwoChains) sums.others[r][p] = _mm512_setzero_si512();
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) sums.codes[p] = _mm512_setzero_si512();
}

// y is [R][P * 16] of the tile.
template <bool kNibbles, bool kAffine, int R, int P>
inline __attribute__((always_inline)) void end_group(const Tile& tile, std::int64_t g, Sums<R, P>& sums, float* y) {
  const std::int64_t groups = tile.plan->groups;
  const std::int16_t* zero_points = tile.args->weight.zero_points;
  // Else g++ keeps y in registers through the groups, which it does not have.
  if constexpr (kAffine && R * P >= 16) asm volatile("" : "+r"(y));
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const std::int64_t at = ((tile.panel + p * tile.panel_step) * groups + g) * 16;
    __m512 scale = _mm512_loadu_ps(tile.args->weight.scales + at);
    __m512i z = _mm512_setzero_si512();
    if (zero_points != nullptr) {
      z = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(zero_points + at)));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      __m512i sum = sums.products[r][p];
      if constexpr (kShiftsLate<kNibbles, kAffine, R, P>) {
        sum = _mm512_add_epi32(sum, _mm512_srai_epi32(sums.others[r][p], 4));
      } else if constexpr (Sums<R, P>::kTwoChains) {
        sum = _mm512_add_epi32(sum, sums.others[r][p]);
      }
      if constexpr (kAffine) {
        __m512i x_zero_point = _mm512_set1_epi32(tile.args->x_zero_points[tile.row + r]);
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(x_zero_point, sums.codes[p]));
      }
      if (zero_points != nullptr) {
        __m512i x_sum = _mm512_set1_epi32(tile.args->sums[(tile.row + r) * groups + g]);
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(z, x_sum));
      }
      float* to = y + (r * P + p) * 16;
      _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, _mm512_load_ps(to)));
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <bool kNibbles, bool kAffine, int R, int P>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  constexpr std::int64_t kSteps = kNibbles ? 8 : 4;
  const NarrowLinearPlan& plan = *tile.plan;
  const std::byte* codes = tile.args->weight.codes + tile.panel * plan.panel_bytes;
  const std::int64_t panel_bytes = plan.panel_bytes * tile.panel_step;
  const std::int8_t* x = tile.args->x + tile.row * tile.args->pitch;
  std::int64_t k = 0;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t end = plan.depth - k < plan.group ? plan.depth : k + plan.group;
    Sums<R, P> sums;
    begin_group(tile, g, sums);
    // Codes and x are zeros behind the end.
    for (; k < end; k += kSteps, codes += 64) {
      multiply_codes<kNibbles, kAffine>(codes, panel_bytes, x + k, tile.args->pitch, sums);
    }
    end_group<kNibbles, kAffine>(tile, g, sums, y);
  }
}

template <bool kNibbles, bool kAffine, int R, int P>
void run_tile(const Tile& tile) {
  alignas(64) float y[R * P * 16] = {};
  multiply_tile<kNibbles, kAffine, R, P>(tile, y);
  const auto& args = *tile.args;
  store_panels({tile.plan, args.weight.bias, args.x_scales, args.out, tile.row, tile.panel, tile.panel_step}, R, P, y);
}

// All rows of P panels.
template <bool kNibbles, bool kAffine, int P>
void run_rows(Tile tile, std::int64_t row_end) {
  for (; tile.row + 8 <= row_end; tile.row += 8) run_tile<kNibbles, kAffine, 8, P>(tile);
  for (; tile.row + 4 <= row_end; tile.row += 4) run_tile<kNibbles, kAffine, 4, P>(tile);
  for (; tile.row + 2 <= row_end; tile.row += 2) run_tile<kNibbles, kAffine, 2, P>(tile);
  for (; tile.row < row_end; ++tile.row) run_tile<kNibbles, kAffine, 1, P>(tile);
}

// One row is as fast as memory, which gives more to four streams of panels than to one, and then without prefetches.
template <bool kNibbles, bool kAffine>
void run_row(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t panel, std::int64_t end) {
  Tile tile = {&plan, &args, 0, panel, (end - panel) / 4};
  for (std::int64_t i = 0; i < tile.panel_step; ++i, ++tile.panel) run_tile<kNibbles, kAffine, 1, 4>(tile);
  for (tile.panel += 3 * tile.panel_step; tile.panel < end; ++tile.panel) run_tile<kNibbles, kAffine, 1, 1>(tile);
}

template <bool kNibbles, bool kAffine>
void run_units(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin, std::int64_t end) {
  if (plan.rows == 1) {
    return run_row<kNibbles, kAffine>(plan, args, begin * kNarrowPanelBlock,
                                      end * kNarrowPanelBlock < plan.panels ? end * kNarrowPanelBlock : plan.panels);
  }
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock};
    const std::int64_t last_row = tile.row + plan.row_block < plan.rows ? tile.row + plan.row_block : plan.rows;
    const std::int64_t last_panel =
        tile.panel + kNarrowPanelBlock < plan.panels ? tile.panel + kNarrowPanelBlock : plan.panels;
    for (; tile.panel + 2 <= last_panel; tile.panel += 2) {
      run_rows<kNibbles, kAffine, 2>(tile, last_row);
    }
    for (; tile.panel < last_panel; ++tile.panel) run_rows<kNibbles, kAffine, 1>(tile, last_row);
  }
}

}  // namespace

void run_linear_dynamic_avx512(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                               std::int64_t end) {
  const bool nibbles = plan.codes == NarrowCodes::nibble_integers;
  if (nibbles && args.has_x_zero_points) return run_units<true, true>(plan, args, begin, end);
  if (nibbles) return run_units<true, false>(plan, args, begin, end);
  if (args.has_x_zero_points) return run_units<false, true>(plan, args, begin, end);
  run_units<false, false>(plan, args, begin, end);
}

}  // namespace aoq::cpu
