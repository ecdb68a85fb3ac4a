// linear_weight_only in block fixed point, AVX512-VNNI: `vpdpbusd` of nibbles as unsigned bytes u = c + 8 and the
// digits of x as signed ones, four elements of K at a time, each digit like a row of its own. The sum of a group is
//
//   S_i = sum(d_i * u) - (8 + z) * sum(d_i)
//
// Digits that are 0 in a whole block are multiplied too: without them one row is no faster, as memory limits it.
#include <immintrin.h>

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/linear_fixed_point_tile.h"
#include "backends/cpu/kernels/narrow_store_avx512.h"
#include "ir/narrow_linear.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kBlockSteps = kFixedPointBlock / 8;

// How far ahead of what they read tiles of few rows ask for codes, in bytes, and scales.
constexpr std::int64_t kPrefetchCodes = 4096, kPrefetchScales = 512;

// One group of a tile, of each digit of each row. Small tiles sum high nibbles apart, as one chain of additions would
// be the slowest part; those may stay 16 times as large until the group ends.
template <int R, int P>
struct Sums {
  static constexpr bool kTwoChains = R * P == 1;
  __m512i low[R][3][P];
  __m512i high[R][3][P];
};

// Where a tile's operands lie; the next panel's and row's are `panel_bytes` and `row_digits` on.
struct Source {
  const std::byte* codes;
  std::int64_t panel_bytes;
  const std::int8_t* digits;
  std::int64_t row_digits;
};

// sum += the products of four bytes. Written as one instruction because g++ 12, given the intrinsic, copies sums.
inline void add_products_in_place(__m512i& sum, __m512i u, __m512i four) {
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(four));
}

template <int R, int P>
inline __attribute__((always_inline)) void multiply(const std::int8_t* digits, std::int64_t row_digits,
                                                    const __m512i (&u)[P], __m512i (&sums)[R][3][P]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      const std::int8_t* from = digits + r * row_digits + 8 * i;
      __m512i four = _mm512_set1_epi32(*reinterpret_cast<const AnyInt32*>(from));
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) add_products_in_place(sums[r][i][p], u[p], four);
    }
  }
}

// 64 bytes of codes of each panel: 8 elements, the step-th ones of the source.
template <int R, int P>
inline __attribute__((always_inline)) void multiply_step(const Source& from, int step, Sums<R, P>& sums) {
  const __m512i mask = _mm512_set1_epi8(15);
  __m512i low[P], high[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const std::byte* codes = from.codes + p * from.panel_bytes + 64 * step;
    if constexpr (R <= 2) __builtin_prefetch(codes + kPrefetchCodes, 0, kNarrowPrefetchLevel);
    __m512i v = _mm512_loadu_si512(codes);
    low[p] = _mm512_and_si512(v, mask);
    if constexpr (Sums<R, P>::kTwoChains) {
      high[p] = _mm512_andnot_si512(mask, v);
    } else {
      high[p] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    }
  }
  const std::int8_t* digits = from.digits + kFixedPointStep * step;
  multiply<R, P>(digits, from.row_digits, low, sums.low);
  multiply<R, P>(digits + 4, from.row_digits, high, Sums<R, P>::kTwoChains ? sums.high : sums.low);
}

template <int kSteps, int R, int P>
inline __attribute__((always_inline)) void multiply_steps(Source& from, Sums<R, P>& sums) {
#pragma GCC unroll 4
  for (int step = 0; step < kSteps; ++step) multiply_step<R, P>(from, step, sums);
  from.codes += 64 * kSteps;
  from.digits += kFixedPointStep * kSteps;
}

// The whole start of 256 * S_1 + S_0 goes to S_0.
template <int R, int P>
inline __attribute__((always_inline)) void begin_block(const Ends& ends, Sums<R, P>& sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const FixedPointBlock& block = ends.block[r * ends.blocks];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      sums.low[r][0][p] = _mm512_set1_epi32(block.low_start);
      sums.low[r][1][p] = _mm512_setzero_si512();
      sums.low[r][2][p] = _mm512_set1_epi32(block.top_start);
#pragma GCC unroll 3
      for (int i = 0; i < 3 && Sums<R, P>::kTwoChains; ++i) sums.high[r][i][p] = _mm512_setzero_si512();
    }
  }
}

// 256 * S_1 + S_0 and S_2.
struct Parts {
  __m512i low, top;
};
template <int R, int P>
inline __attribute__((always_inline)) Parts join(const Sums<R, P>& sums, int r, int p) {
  auto low_of = [](__m512i digit_1, __m512i digit_0) {
    return _mm512_add_epi32(_mm512_slli_epi32(digit_1, 8), digit_0);
  };
  Parts parts = {low_of(sums.low[r][1][p], sums.low[r][0][p]), sums.low[r][2][p]};
  if constexpr (Sums<R, P>::kTwoChains) {
    __m512i high = low_of(sums.high[r][1][p], sums.high[r][0][p]);
    parts.low = _mm512_add_epi32(parts.low, _mm512_srai_epi32(high, 4));
    parts.top = _mm512_add_epi32(parts.top, _mm512_srai_epi32(sums.high[r][2][p], 4));
  }
  return parts;
}

inline __attribute__((always_inline)) void subtract_zero_points(const std::int16_t* zero_points,
                                                                const FixedPointBlock& block, Parts& parts) {
  __m512i z = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(zero_points)));
  parts.low = _mm512_sub_epi32(parts.low, _mm512_mullo_epi32(z, _mm512_set1_epi32(block.low_sum)));
  parts.top = _mm512_sub_epi32(parts.top, _mm512_mullo_epi32(z, _mm512_set1_epi32(block.top_sum)));
}

// y is [R][P * 16] of the tile.
template <int R, int P>
inline __attribute__((always_inline)) void end_block(const Ends& ends, std::int64_t g, const Sums<R, P>& sums,
                                                     float* y) {
  // Else g++ keeps y in registers through the blocks, which it does not have.
  if constexpr (R * P >= 8) asm volatile("" : "+r"(y));
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const std::int64_t at = p * ends.panel_constants + g * 16;
    __m512 scale = _mm512_loadu_ps(ends.scales + at);
    if constexpr (R <= 2) __builtin_prefetch(ends.scales + at + kPrefetchScales, 0, kNarrowPrefetchLevel);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const FixedPointBlock& block = ends.block[r * ends.blocks];
      Parts parts = join(sums, r, p);
      if (ends.zero_points != nullptr) subtract_zero_points(ends.zero_points + at, block, parts);
      __m512 s =
          _mm512_fmadd_ps(_mm512_cvtepi32_ps(parts.top), _mm512_set1_ps(65536.0f), _mm512_cvtepi32_ps(parts.low));
      float* to = y + (r * P + p) * 16;
      s = _mm512_mul_ps(s, _mm512_set1_ps(block.unit));
      _mm512_store_ps(to, _mm512_fmadd_ps(s, scale, _mm512_load_ps(to)));
    }
  }
}

// Behind a group with float zero points.
template <int R, int P>
void add_zeros(const Ends& ends, std::int64_t g, float* y) {
  for (int p = 0; p < P; ++p) {
    __m512 zeros = _mm512_loadu_ps(ends.zeros + p * ends.panel_constants + g * 16);
    for (int r = 0; r < R; ++r) {
      float* to = y + (r * P + p) * 16;
      __m512 t = _mm512_set1_ps(ends.sums[r * ends.groups + g]);
      _mm512_store_ps(to, _mm512_fmadd_ps(t, zeros, _mm512_load_ps(to)));
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <int R, int P>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const std::int64_t row_digits = tile.args->row_digits, groups = plan.groups, group_steps = plan.group / 8;
  Source from = {tile.args->weight.codes + tile.panel * plan.panel_bytes, plan.panel_bytes * tile.panel_step,
                 tile.args->digits + tile.row * row_digits, row_digits};
  Ends ends(tile);
  std::int64_t steps = plan.panel_bytes / 64;
  for (std::int64_t g = 0; g < groups; ++g) {
    // Codes and digits are zeros behind the end.
    const std::int64_t group_end = g + 1 == groups ? 0 : steps - group_steps;
    while (steps > group_end) {
      const std::int64_t block_end = steps - group_end < kBlockSteps ? group_end : steps - kBlockSteps;
      Sums<R, P> sums;
      begin_block(ends, sums);
      for (; steps - block_end >= 4; steps -= 4) multiply_steps<4>(from, sums);
      for (; steps > block_end; --steps) multiply_steps<1>(from, sums);
      end_block(ends, g, sums, y);
      ++ends.block;
    }
    if (ends.zeros != nullptr) add_zeros<R, P>(ends, g, y);
  }
}

template <int R, int P>
void run_tile(const Tile& tile) {
  alignas(64) float y[R * P * 16] = {};
  multiply_tile<R, P>(tile, y);
  const auto& args = *tile.args;
  store_panels({tile.plan, args.weight.bias, nullptr, args.out, tile.row, tile.panel, tile.panel_step}, R, P, y);
}

// All rows of P panels.
template <int P>
void run_rows(Tile tile, std::int64_t row_end) {
  for (; tile.row + 4 <= row_end; tile.row += 4) run_tile<4, P>(tile);
  for (; tile.row + 2 <= row_end; tile.row += 2) run_tile<2, P>(tile);
  for (; tile.row < row_end; ++tile.row) run_tile<1, P>(tile);
}

// One row is as fast as memory, which gives more to two streams of panels than to one.
void run_row(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t panel, std::int64_t end) {
  Tile tile = {&plan, &args, 0, panel, (end - panel) / 2, fixed_point_blocks(plan)};
  for (std::int64_t i = 0; i < tile.panel_step; ++i, ++tile.panel) run_tile<1, 2>(tile);
  for (tile.panel += tile.panel_step; tile.panel < end; ++tile.panel) run_tile<1, 1>(tile);
}

}  // namespace

void run_linear_fixed_point_avx512(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                   std::int64_t end) {
  if (plan.rows == 1) {
    return run_row(plan, args, begin * kNarrowPanelBlock,
                   end * kNarrowPanelBlock < plan.panels ? end * kNarrowPanelBlock : plan.panels);
  }
  const std::int64_t blocks = fixed_point_blocks(plan);
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock,
                 1,     blocks};
    const std::int64_t last_row = tile.row + plan.row_block < plan.rows ? tile.row + plan.row_block : plan.rows;
    const std::int64_t last_panel =
        tile.panel + kNarrowPanelBlock < plan.panels ? tile.panel + kNarrowPanelBlock : plan.panels;
    for (; tile.panel + 2 <= last_panel; tile.panel += 2) run_rows<2>(tile, last_row);
    for (; tile.panel < last_panel; ++tile.panel) run_rows<1>(tile, last_row);
  }
}

}  // namespace aoq::cpu
