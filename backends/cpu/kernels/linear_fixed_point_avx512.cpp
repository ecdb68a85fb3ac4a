// linear_weight_only in block fixed point, AVX512-VNNI: `vpdpbusd` of nibbles as unsigned bytes u = c + 8 and the
// digits of x as signed ones, four elements of K at a time, each digit like a row of its own. The sum of a group is
//
//   S_i = start_i + sum(d_i * u) - z * sum(d_i)     start_i = -8 * sum(d_i)
#include <immintrin.h>

#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/narrow_linear.h"

namespace aoq::cpu {
namespace {

// How far ahead of the codes that are read memory is asked for, when few rows leave no other time for it.
constexpr std::int64_t kPrefetchBytes = 2048;

struct AnyInt32 {
  std::int32_t value;
} __attribute__((packed, may_alias));

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearFixedPointArgs* args;
  std::int64_t row, panel;
};

// One group of a tile, of each digit of each row. Small tiles sum high nibbles apart, as one chain of additions would
// be the slowest part; those may stay 16 times as large until the group ends.
template <int R, int P>
struct Sums {
  static constexpr bool kTwoChains = R * P <= 2;
  __m512i low[3 * R][P];
  __m512i high[3 * R][P];
};

template <int D, int P>
inline __attribute__((always_inline)) void multiply(const std::int8_t* digits, std::int64_t pitch,
                                                    const __m512i (&u)[P], __m512i (&sums)[D][P]) {
#pragma GCC unroll 16
  for (int d = 0; d < D; ++d) {
    __m512i four = _mm512_set1_epi32(reinterpret_cast<const AnyInt32*>(digits + d * pitch)->value);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      sums[d][p] = _mm512_dpbusd_epi32(sums[d][p], u[p], four);
      asm volatile("" : "+v"(sums[d][p]));
    }
  }
}

// 64 bytes of codes of each panel: 8 elements.
template <int R, int P>
inline __attribute__((always_inline)) void multiply_codes(const std::byte* codes, std::int64_t panel_bytes,
                                                          const std::int8_t* digits, std::int64_t pitch,
                                                          Sums<R, P>& sums) {
  const __m512i mask = _mm512_set1_epi8(15);
  __m512i low[P], high[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    __m512i v = _mm512_loadu_si512(codes + p * panel_bytes);
    low[p] = _mm512_and_si512(v, mask);
    if constexpr (Sums<R, P>::kTwoChains) {
      high[p] = _mm512_andnot_si512(mask, v);
    } else {
      high[p] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    }
  }
  multiply(digits, pitch, low, sums.low);
  multiply(digits + 4, pitch, high, Sums<R, P>::kTwoChains ? sums.high : sums.low);
}

// Asks for codes that are read later: behind the end of these panels the next ones begin.
template <int R, int P>
inline __attribute__((always_inline)) void prefetch(const std::byte* codes, const std::byte* end,
                                                    std::int64_t panel_bytes) {
  if constexpr (R <= 2) {
    const std::int64_t skip = end - codes > kPrefetchBytes ? 0 : (P - 1) * panel_bytes;
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) __builtin_prefetch(codes + kPrefetchBytes + skip + p * panel_bytes, 0, 3);
  }
}

template <int R, int P>
inline __attribute__((always_inline)) void begin_group(const Tile& tile, std::int64_t g, Sums<R, P>& sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const FixedPointGroup& group = tile.args->groups[(tile.row + r) * tile.plan->groups + g];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      __m512i start = _mm512_set1_epi32(group.starts[i]);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        sums.low[3 * r + i][p] = start;
        if constexpr (Sums<R, P>::kTwoChains) sums.high[3 * r + i][p] = _mm512_setzero_si512();
      }
    }
  }
}

// S_i of row r and panel p; z of its columns where there are zero points.
template <int R, int P>
inline __attribute__((always_inline)) __m512 digit_sum(const Sums<R, P>& sums, int r, int p, int i) {
  __m512i sum = sums.low[3 * r + i][p];
  if constexpr (Sums<R, P>::kTwoChains) sum = _mm512_add_epi32(sum, _mm512_srai_epi32(sums.high[3 * r + i][p], 4));
  return _mm512_cvtepi32_ps(sum);
}

// y is [R][P * 16] of the tile.
template <int R, int P>
inline __attribute__((always_inline)) void end_group(const Tile& tile, std::int64_t g, Sums<R, P>& sums, float* y) {
  const std::int64_t groups = tile.plan->groups;
  const std::int16_t* zero_points = tile.args->weight.zero_points;
  const float* zeros = tile.args->weight.zeros;
  // Else g++ keeps y in registers through the groups, which it does not have.
  if constexpr (R * P >= 8) asm volatile("" : "+r"(y));
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const std::int64_t at = ((tile.panel + p) * groups + g) * 16;
    __m512 scale = _mm512_loadu_ps(tile.args->weight.scales + at);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const FixedPointGroup& group = tile.args->groups[(tile.row + r) * groups + g];
      if (zero_points != nullptr) {
        __m512i z = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(zero_points + at)));
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) {
          __m512i part = _mm512_mullo_epi32(z, _mm512_set1_epi32(group.sums[i]));
          sums.low[3 * r + i][p] = _mm512_sub_epi32(sums.low[3 * r + i][p], part);
        }
      }
      __m512 s = _mm512_fmadd_ps(digit_sum(sums, r, p, 1), _mm512_set1_ps(256.0f), digit_sum(sums, r, p, 0));
      s = _mm512_fmadd_ps(digit_sum(sums, r, p, 2), _mm512_set1_ps(65536.0f), s);
      s = _mm512_mul_ps(s, _mm512_set1_ps(group.unit));
      float* to = y + (r * P + p) * 16;
      __m512 sum = _mm512_fmadd_ps(s, scale, _mm512_load_ps(to));
      if (zeros != nullptr) {
        __m512 t = _mm512_set1_ps(tile.args->sums[(tile.row + r) * groups + g]);
        sum = _mm512_fmadd_ps(t, _mm512_loadu_ps(zeros + at), sum);
      }
      _mm512_store_ps(to, sum);
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <int R, int P>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const std::byte* codes = tile.args->weight.codes + tile.panel * plan.panel_bytes;
  const std::byte* codes_end = codes + plan.panel_bytes;
  const std::int8_t* digits = tile.args->digits + tile.row * 3 * tile.args->pitch;
  std::int64_t k = 0;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t end = plan.depth - k < plan.group ? plan.depth : k + plan.group;
    Sums<R, P> sums;
    begin_group(tile, g, sums);
    // Codes and digits are zeros behind the end.
    for (; k < end; k += 8, codes += 64) {
      prefetch<R, P>(codes, codes_end, plan.panel_bytes);
      multiply_codes(codes, plan.panel_bytes, digits + k, tile.args->pitch, sums);
    }
    end_group(tile, g, sums, y);
  }
}

void store(const Tile& tile, int rows, int panels, const float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  for (int p = 0; p < panels; ++p) {
    const std::int64_t column = (tile.panel + p) * 16, left = plan.columns - column;
    const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
    const float* bias = tile.args->weight.bias;
    for (int r = 0; r < rows; ++r) {
      __m512 value = _mm512_load_ps(y + (r * panels + p) * 16);
      if (bias != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(bias + column));
      _mm512_mask_storeu_ps(tile.args->out + (tile.row + r) * plan.columns + column, mask, value);
    }
  }
}

template <int R, int P>
void run_tile(const Tile& tile) {
  alignas(64) float y[R * P * 16] = {};
  multiply_tile<R, P>(tile, y);
  store(tile, R, P, y);
}

// All rows of P panels.
template <int P>
void run_rows(Tile tile, std::int64_t row_end) {
  for (; tile.row + 4 <= row_end; tile.row += 4) run_tile<4, P>(tile);
  for (; tile.row + 2 <= row_end; tile.row += 2) run_tile<2, P>(tile);
  for (; tile.row < row_end; ++tile.row) run_tile<1, P>(tile);
}

}  // namespace

void run_linear_fixed_point_avx512(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                   std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock};
    const std::int64_t last_row = tile.row + plan.row_block < plan.rows ? tile.row + plan.row_block : plan.rows;
    const std::int64_t last_panel =
        tile.panel + kNarrowPanelBlock < plan.panels ? tile.panel + kNarrowPanelBlock : plan.panels;
    // With few rows memory is what limits: then one panel after the other, as they lie.
    for (; last_row - tile.row > 2 && tile.panel + 2 <= last_panel; tile.panel += 2) run_rows<2>(tile, last_row);
    for (; tile.panel < last_panel; ++tile.panel) run_rows<1>(tile, last_row);
  }
}

}  // namespace aoq::cpu
