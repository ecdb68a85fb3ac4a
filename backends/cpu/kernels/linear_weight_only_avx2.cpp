// linear_weight_only of all but integer nibbles, AVX2: tiles of up to 4 rows and one panel, or of few rows and 2
// panels, whose codes are decoded in registers, 8 columns to a vector.
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/narrow_store_avx2.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPrefetchBytes = 2048;

// Elements of 8 columns: prepare() once for a vector of codes, at<J>() for each element. kPairs: whether few rows take
// two panels at once, for which the decoded weights must leave enough registers.
struct NibbleFloats {
  static constexpr int kSteps = 8;
  static constexpr bool kPairs = true;
  __m256 magnitudes;

  explicit NibbleFloats(const NarrowLinearPlan& plan) : magnitudes(_mm256_loadu_ps(plan.nibble_values)) {}
  __m256i prepare(__m256i v) const { return v; }
  template <int J>
  __m256 at(__m256i v) const {
    constexpr int kShift = J < 4 ? 8 * J : 8 * J - 28;
    // The permutation looks at three bits.
    __m256 magnitude = _mm256_permutevar8x32_ps(magnitudes, _mm256_srli_epi32(v, kShift));
    __m256 sign = _mm256_castsi256_ps(_mm256_slli_epi32(v, 28 - kShift));
    return _mm256_or_ps(magnitude, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
  }
};

struct ByteIntegers {
  static constexpr int kSteps = 4;
  static constexpr bool kPairs = true;

  explicit ByteIntegers(const NarrowLinearPlan&) {}
  __m256i prepare(__m256i v) const { return v; }
  template <int J>
  __m256 at(__m256i v) const {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * J), 24));
  }
};

struct ByteFloats {
  static constexpr int kSteps = 4;
  static constexpr bool kPairs = false;
  __m128i shift;
  __m256 multiplier;
  __m256i finite, nan;

  explicit ByteFloats(const NarrowLinearPlan& plan)
      : shift(_mm_cvtsi32_si128(plan.byte_floats.shift)),
        multiplier(_mm256_set1_ps(plan.byte_floats.multiplier)),
        finite(_mm256_set1_epi32(plan.byte_floats.finite)),
        nan(_mm256_set1_epi32(plan.byte_floats.nan)) {}
  __m256i prepare(__m256i v) const { return v; }
  template <int J>
  __m256 at(__m256i v) const {
    __m256i code = _mm256_and_si256(_mm256_srli_epi32(v, 8 * J), _mm256_set1_epi32(255));
    __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi32(127));
    __m256i bits = _mm256_sll_epi32(magnitude, shift);
    __m256i value = _mm256_castps_si256(_mm256_mul_ps(_mm256_castsi256_ps(bits), multiplier));
    __m256i infinite = _mm256_or_si256(bits, _mm256_set1_epi32(0x7f800000));
    value = _mm256_blendv_epi8(value, infinite, _mm256_cmpgt_epi32(magnitude, finite));
    value = _mm256_or_si256(value, _mm256_slli_epi32(_mm256_srli_epi32(code, 7), 31));
    value = _mm256_blendv_epi8(value, _mm256_set1_epi32(0x7fc00000), _mm256_cmpeq_epi32(code, nan));
    return _mm256_castsi256_ps(value);
  }
};

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearWeightOnlyArgs* args;
  std::int64_t row, panel;
};

// H vectors of 8 columns.
template <int J, typename Decode, int R, int H>
inline __attribute__((always_inline)) void step(const Decode& decode, const __m256i (&v)[H], const float* x,
                                                std::int64_t pitch, __m256 (&s)[R][H]) {
  __m256 w[H];
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) w[h] = decode.template at<J>(v[h]);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    __m256 value = _mm256_set1_ps(x[r * pitch + J]);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
      s[r][h] = _mm256_fmadd_ps(value, w[h], s[r][h]);
      asm volatile("" : "+x"(s[r][h]));
    }
  }
}

template <typename Decode, int R, int H>
inline __attribute__((always_inline)) void steps(const Decode& decode, const __m256i (&v)[H], const float* x,
                                                 std::int64_t pitch, std::int64_t count, __m256 (&s)[R][H]) {
  if (count > 0) step<0>(decode, v, x, pitch, s);
  if (count > 1) step<1>(decode, v, x, pitch, s);
  if (count > 2) step<2>(decode, v, x, pitch, s);
  if (count > 3) step<3>(decode, v, x, pitch, s);
  if constexpr (Decode::kSteps == 8) {
    if (count > 4) step<4>(decode, v, x, pitch, s);
    if (count > 5) step<5>(decode, v, x, pitch, s);
    if (count > 6) step<6>(decode, v, x, pitch, s);
    if (count > 7) step<7>(decode, v, x, pitch, s);
  }
}

template <int R, typename Decode, int H>
inline __attribute__((always_inline)) void load_codes(const Decode& decode, const std::byte* codes, std::int64_t pitch,
                                                      std::int64_t left, __m256i (&v)[H]) {
  // Behind the end of these panels the next ones begin.
  const std::int64_t ahead = kPrefetchBytes + (left > kPrefetchBytes ? 0 : (H / 2 - 1) * pitch);
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) {
    const std::byte* from = codes + h / 2 * pitch + h % 2 * 32;
    if constexpr (R <= 2) {
      if (h % 2 == 0) __builtin_prefetch(from + ahead, 0, 3);
    }
    v[h] = decode.prepare(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
}

// Half h of the tile in arrays of [panels][groups][16].
inline std::int64_t half_at(const Tile& tile, std::int64_t g, int h) {
  return ((tile.panel + h / 2) * tile.plan->groups + g) * 16 + h % 2 * 8;
}

template <int R, int H>
inline __attribute__((always_inline)) void begin_chains(const Tile& tile, std::int64_t g, __m256 (&s)[R][H]) {
  const std::int16_t* zero_points = tile.args->weight.zero_points;
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) {
    __m256 minus_z = _mm256_setzero_ps();
    if (zero_points != nullptr) {
      const std::int16_t* z = zero_points + half_at(tile, g, h);
      __m256i wide = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(z)));
      minus_z = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_setzero_si256(), wide));
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      s[r][h] = minus_z;
      if (zero_points != nullptr) {
        s[r][h] = _mm256_mul_ps(minus_z, _mm256_set1_ps(tile.args->sums[(tile.row + r) * tile.plan->groups + g]));
      }
    }
  }
}

// y is [R][H * 8] of the tile.
template <int R, int H>
inline __attribute__((always_inline)) void end_chains(const Tile& tile, std::int64_t g, const __m256 (&s)[R][H],
                                                      float* y) {
  const float* zeros = tile.args->weight.zeros;
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) {
    const std::int64_t at = half_at(tile, g, h);
    __m256 scale = _mm256_loadu_ps(tile.args->weight.scales + at);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      float* to = y + (r * H + h) * 8;
      __m256 sum = _mm256_fmadd_ps(s[r][h], scale, _mm256_load_ps(to));
      if (zeros != nullptr) {
        __m256 t = _mm256_set1_ps(tile.args->sums[(tile.row + r) * tile.plan->groups + g]);
        sum = _mm256_fmadd_ps(t, _mm256_loadu_ps(zeros + at), sum);
      }
      _mm256_store_ps(to, sum);
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <typename Decode, int R, int H>
__attribute__((noinline)) void multiply(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const Decode decode(plan);
  const std::byte* codes = tile.args->weight.codes + tile.panel * plan.panel_bytes;
  const std::byte* codes_end = codes + plan.panel_bytes;
  const float* x = tile.args->x + tile.row * plan.depth;
  std::int64_t k = 0;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t end = min_of(plan.depth, k + plan.group);
    __m256 s[R][H];
    __m256i v[H];
    begin_chains(tile, g, s);
    for (; k + Decode::kSteps <= end; k += Decode::kSteps, codes += 64) {
      load_codes<R>(decode, codes, plan.panel_bytes, codes_end - codes, v);
      steps(decode, v, x + k, plan.depth, Decode::kSteps, s);
    }
    if (k < end) {
      load_codes<R>(decode, codes, plan.panel_bytes, codes_end - codes, v);
      steps(decode, v, x + k, plan.depth, end - k, s);
      k = end;
    }
    end_chains(tile, g, s, y);
  }
}

template <typename Decode, int R, int H>
void run_tile(const Tile& tile) {
  alignas(32) float y[R * H * 8] = {};
  multiply<Decode, R, H>(tile, y);
  const auto& args = *tile.args;
  store_halves({tile.plan, args.weight.bias, nullptr, args.out, tile.row, tile.panel}, R, H, y);
}

// Rows of H / 2 panels.
template <typename Decode, int H>
void run_rows(Tile tile, std::int64_t row_end) {
  constexpr int kMany = H == 2 ? 4 : 1;
  while (tile.row < row_end) {
    const std::int64_t left = row_end - tile.row;
    if (kMany > 1 && left >= kMany) {
      run_tile<Decode, kMany, H>(tile);
      tile.row += kMany;
    } else if (left >= 2) {
      run_tile<Decode, 2, H>(tile);
      tile.row += 2;
    } else {
      run_tile<Decode, 1, H>(tile);
      tile.row += 1;
    }
  }
}

template <typename Decode>
void run_units(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock};
    const std::int64_t last_row = min_of(tile.row + plan.row_block, plan.rows);
    const std::int64_t last_panel = min_of(tile.panel + kNarrowPanelBlock, plan.panels);
    if constexpr (Decode::kPairs) {
      for (; last_row - tile.row <= 2 && tile.panel + 2 <= last_panel; tile.panel += 2) {
        run_rows<Decode, 4>(tile, last_row);
      }
    }
    for (; tile.panel < last_panel; ++tile.panel) run_rows<Decode, 2>(tile, last_row);
  }
}

}  // namespace

void run_linear_weight_only_avx2(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
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
