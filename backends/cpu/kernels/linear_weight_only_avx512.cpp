// linear_weight_only of all but integer nibbles, AVX-512: tiles of up to 8 rows and 2 panels, or of few rows and 4
// panels, whose codes are decoded in registers. Per element of K a tile turns one code of each column into a float and
// adds it to every row's chain.
#include <immintrin.h>

#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/narrow_store_avx512.h"

namespace aoq::cpu {
namespace {

// How far ahead of the codes that are read memory is asked for, when few rows leave no other time for it.
constexpr std::int64_t kPrefetchBytes = 2048;

// A decoder gives element J of each column from 64 bytes of codes: kSteps elements.

template <int J>
inline __m512i shifted_nibbles(const std::byte* codes) {
  constexpr unsigned kShift = J < 4 ? 8 * J : 8 * J - 28;
  __m512i v = _mm512_loadu_si512(codes);
  if constexpr (kShift == 0) return v;
  return _mm512_srli_epi32(v, kShift);
}

struct NibbleFloats {
  static constexpr int kSteps = 8;
  __m512 values;

  explicit NibbleFloats(const NarrowLinearPlan& plan) : values(_mm512_loadu_ps(plan.nibble_values)) {}
  // The permutation looks at the lowest 4 bits only.
  template <int J>
  __m512 at(const std::byte* codes) const {
    return _mm512_permutexvar_ps(shifted_nibbles<J>(codes), values);
  }
};

struct ByteIntegers {
  static constexpr int kSteps = 4;

  explicit ByteIntegers(const NarrowLinearPlan&) {}
  template <int J>
  __m512 at(const std::byte* codes) const {
    __m512i v = _mm512_loadu_si512(codes);
    if constexpr (J < 3) v = _mm512_slli_epi32(v, 24 - 8 * J);
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(v, 24));
  }
};

struct ByteFloats {
  static constexpr int kSteps = 4;
  __m128i shift;
  __m512 multiplier;
  __m512i finite, nan;

  explicit ByteFloats(const NarrowLinearPlan& plan)
      : shift(_mm_cvtsi32_si128(plan.byte_floats.shift)),
        multiplier(_mm512_set1_ps(plan.byte_floats.multiplier)),
        finite(_mm512_set1_epi32(plan.byte_floats.finite)),
        nan(_mm512_set1_epi32(plan.byte_floats.nan)) {}
  template <int J>
  __m512 at(const std::byte* codes) const {
    __m512i code = _mm512_and_si512(_mm512_srli_epi32(_mm512_loadu_si512(codes), 8 * J), _mm512_set1_epi32(255));
    __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi32(127));
    __m512i bits = _mm512_sll_epi32(magnitude, shift);
    __m512i value = _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(bits), multiplier));
    __mmask16 special = _mm512_cmpgt_epi32_mask(magnitude, finite);
    value = _mm512_mask_or_epi32(value, special, bits, _mm512_set1_epi32(0x7f800000));
    value = _mm512_or_si512(value, _mm512_slli_epi32(_mm512_srli_epi32(code, 7), 31));
    value = _mm512_mask_mov_epi32(value, _mm512_cmpeq_epi32_mask(code, nan), _mm512_set1_epi32(0x7fc00000));
    return _mm512_castsi512_ps(value);
  }
};

// Where a step reads: 64 bytes of codes in each of the tile's panels, and the elements of x in each of its rows.
struct Source {
  const std::byte* codes;
  std::int64_t panel_bytes;
  const float* x;
  std::int64_t pitch;
};

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearWeightOnlyArgs* args;
  std::int64_t row, panel;
};

template <int J, typename Decode, int R, int P>
inline __attribute__((always_inline)) void step(const Decode& decode, const Source& from, __m512 (&s)[R][P]) {
  __m512 w[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) w[p] = decode.template at<J>(from.codes + p * from.panel_bytes);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    __m512 value = _mm512_set1_ps(from.x[r * from.pitch + J]);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      s[r][p] = _mm512_fmadd_ps(value, w[p], s[r][p]);
      asm volatile("" : "+v"(s[r][p]));
    }
  }
}

// Elements [0, count) of the kSteps.
template <typename Decode, int R, int P>
inline __attribute__((always_inline)) void steps(const Decode& decode, const Source& from, std::int64_t count,
                                                 __m512 (&s)[R][P]) {
  if (count > 0) step<0>(decode, from, s);
  if (count > 1) step<1>(decode, from, s);
  if (count > 2) step<2>(decode, from, s);
  if (count > 3) step<3>(decode, from, s);
  if constexpr (Decode::kSteps == 8) {
    if (count > 4) step<4>(decode, from, s);
    if (count > 5) step<5>(decode, from, s);
    if (count > 6) step<6>(decode, from, s);
    if (count > 7) step<7>(decode, from, s);
  }
}

// Asks for codes that are read later: behind the end of these panels the next ones begin.
template <int R, int P>
inline __attribute__((always_inline)) void prefetch(const Source& from, const std::byte* end) {
  if constexpr (R <= 2) {
    const std::int64_t skip = end - from.codes > kPrefetchBytes ? 0 : (P - 1) * from.panel_bytes;
    const std::byte* ahead = from.codes + kPrefetchBytes + skip;
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) __builtin_prefetch(ahead + p * from.panel_bytes, 0, 3);
  }
}

// The start of the chains of group g: -z * t.
template <int R, int P>
inline __attribute__((always_inline)) void begin_chains(const Tile& tile, std::int64_t g, __m512 (&s)[R][P]) {
  const std::int64_t groups = tile.plan->groups;
  const std::int16_t* zero_points = tile.args->weight.zero_points;
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    __m512 minus_z = _mm512_setzero_ps();
    if (zero_points != nullptr) {
      const std::int16_t* z = zero_points + ((tile.panel + p) * groups + g) * 16;
      __m512i wide = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(z)));
      minus_z = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), wide));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      s[r][p] = minus_z;
      if (zero_points != nullptr) {
        s[r][p] = _mm512_mul_ps(minus_z, _mm512_set1_ps(tile.args->sums[(tile.row + r) * groups + g]));
      }
    }
  }
}

// y is [R][P * 16] of the tile.
template <int R, int P>
inline __attribute__((always_inline)) void end_chains(const Tile& tile, std::int64_t g, const __m512 (&s)[R][P],
                                                      float* y) {
  const std::int64_t groups = tile.plan->groups;
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const std::int64_t at = ((tile.panel + p) * groups + g) * 16;
    __m512 scale = _mm512_loadu_ps(tile.args->weight.scales + at);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      float* to = y + (r * P + p) * 16;
      __m512 sum = _mm512_fmadd_ps(s[r][p], scale, _mm512_load_ps(to));
      if (tile.args->weight.zeros != nullptr) {
        __m512 t = _mm512_set1_ps(tile.args->sums[(tile.row + r) * groups + g]);
        sum = _mm512_fmadd_ps(t, _mm512_loadu_ps(tile.args->weight.zeros + at), sum);
      }
      _mm512_store_ps(to, sum);
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <typename Decode, int R, int P>
__attribute__((noinline)) void multiply(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const Decode decode(plan);
  Source from = {tile.args->weight.codes + tile.panel * plan.panel_bytes, plan.panel_bytes,
                 tile.args->x + tile.row * plan.depth, plan.depth};
  const std::byte* codes_end = from.codes + plan.panel_bytes;
  std::int64_t k = 0;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t end = plan.depth - k < plan.group ? plan.depth : k + plan.group;
    __m512 s[R][P];
    begin_chains(tile, g, s);
    for (; k + Decode::kSteps <= end; k += Decode::kSteps, from.codes += 64, from.x += Decode::kSteps) {
      prefetch<R, P>(from, codes_end);
      steps(decode, from, Decode::kSteps, s);
    }
    if (k < end) steps(decode, from, end - k, s);  // the last group only
    end_chains(tile, g, s, y);
  }
}

template <typename Decode, int R, int P>
void run_tile(const Tile& tile) {
  alignas(64) float y[R * P * 16] = {};
  multiply<Decode, R, P>(tile, y);
  const auto& args = *tile.args;
  store_panels({tile.plan, args.weight.bias, nullptr, args.out, tile.row, tile.panel}, R, P, y);
}

// All rows of P panels; P is 4 for at most 2 rows, where one panel's chains would wait for themselves.
template <typename Decode, int P>
void run_rows(Tile tile, std::int64_t row_end) {
  if constexpr (P < 4) {
    for (; tile.row + 8 <= row_end; tile.row += 8) run_tile<Decode, 8, P>(tile);
    for (; tile.row + 4 <= row_end; tile.row += 4) run_tile<Decode, 4, P>(tile);
  }
  for (; tile.row + 2 <= row_end; tile.row += 2) run_tile<Decode, 2, P>(tile);
  for (; tile.row < row_end; ++tile.row) run_tile<Decode, 1, P>(tile);
}

template <typename Decode>
void run_units(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock};
    const std::int64_t last_row = tile.row + plan.row_block < plan.rows ? tile.row + plan.row_block : plan.rows;
    const std::int64_t last_panel =
        tile.panel + kNarrowPanelBlock < plan.panels ? tile.panel + kNarrowPanelBlock : plan.panels;
    if (last_row - tile.row <= 2) {
      for (; tile.panel + 4 <= last_panel; tile.panel += 4) run_rows<Decode, 4>(tile, last_row);
    }
    for (; tile.panel + 2 <= last_panel; tile.panel += 2) run_rows<Decode, 2>(tile, last_row);
    for (; tile.panel < last_panel; ++tile.panel) run_rows<Decode, 1>(tile, last_row);
  }
}

}  // namespace

void run_linear_weight_only_avx512(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                                   std::int64_t end) {
  switch (plan.codes) {
    case NarrowCodes::nibble_integers:
      return;  // run_linear_fixed_point
    case NarrowCodes::nibble_floats:
      return run_units<NibbleFloats>(plan, args, begin, end);
    case NarrowCodes::byte_integers:
      return run_units<ByteIntegers>(plan, args, begin, end);
    case NarrowCodes::byte_floats:
      return run_units<ByteFloats>(plan, args, begin, end);
  }
}

}  // namespace aoq::cpu
