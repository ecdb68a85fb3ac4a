// linear_weight_only in block fixed point, AVX2: nibbles are multiplied as unsigned bytes u = c + 8 with the digits of
// x by `vpmaddubsw`, each digit like a row of its own; sums of 32 elements fit s16 (16 products of at most 15 * 128 to
// a lane). The sum of a group is
//
//   S_i = start_i + sum(d_i * u) - z * sum(d_i)     start_i = -8 * sum(d_i)
//
// In groups of up to 256 elements 256 * S_1 + S_0 is exact in s32 too, and float of it is fma(float(S_1), 256,
// float(S_0)). A tile is one or two rows and a panel: with two 12 sums in s16, two vectors of codes, x and a product.
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPrefetchBytes = 2048;

struct AnyInt32 {
  std::int32_t value;
} __attribute__((packed, may_alias));

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearFixedPointArgs* args;
  std::int64_t row, panel;
};

// Sums of 32 products, of each digit of each row and both halves of a panel, in s16.
template <int R>
struct Short {
  __m256i of[R][3][2];
};

enum class Groups : std::uint8_t { of_32, up_to_256, any };

// The sums of a group in s32: S_i, or joined 256 * S_1 + S_0 and S_2.
template <Groups kGroups, int R>
struct Sums {
  static constexpr bool kJoins = kGroups != Groups::any;
  static constexpr int kParts = kJoins ? 2 : 3;
  __m256i of[R][kParts][2];
};

enum class Sum : std::uint8_t { begin, add };
enum class Half : std::uint8_t { low, high };

// Where a tile's operands lie; the next row's digits are `row_digits` on.
struct Source {
  const std::byte* codes;
  const std::int8_t* digits;
  std::int64_t row_digits;
};

inline void add_s16_in_place(__m256i& sum, __m256i product) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
}

// One half of each byte of codes, times the digits of R rows; the first ones of a sum begin it.
template <Half kHalf, Sum kSum, int R>
inline __attribute__((always_inline)) void multiply_halves(const Source& from, int step, Short<R>& sum) {
  const __m256i mask = _mm256_set1_epi8(15);
  const std::byte* codes = from.codes + 64 * step;
  __m256i u[2];
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * h));
    u[h] = _mm256_and_si256(kHalf == Half::low ? v : _mm256_srli_epi16(v, 4), mask);
  }
  const std::int8_t* digits = from.digits + kFixedPointStep * step + (kHalf == Half::low ? 0 : 4);
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
    __m256i products[3][2];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      const std::int8_t* at = digits + r * from.row_digits + 8 * i;
      __m256i four = _mm256_set1_epi32(reinterpret_cast<const AnyInt32*>(at)->value);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        __m256i& product = kSum == Sum::begin ? sum.of[r][i][h] : products[i][h];
        product = _mm256_maddubs_epi16(u[h], four);
        if constexpr (kSum == Sum::begin || R == 1) asm volatile("" : "+x"(product));
        if constexpr (kSum == Sum::add && R > 1) add_s16_in_place(sum.of[r][i][h], product);
      }
    }
    // One row has registers for all products; then additions go together.
#pragma GCC unroll 3
    for (int i = 0; i < 3 && kSum == Sum::add && R == 1; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) add_s16_in_place(sum.of[r][i][h], products[i][h]);
    }
  }
}

template <Sum kSum, int R>
inline __attribute__((always_inline)) void multiply_step(Source& from, int step, Short<R>& sum) {
  if constexpr (R == 1) __builtin_prefetch(from.codes + 64 * step + kPrefetchBytes, 0, 3);
  multiply_halves<Half::low, kSum>(from, step, sum);
  // Read again rather than kept: there are no registers left.
  asm volatile("" : "+r"(from.codes));
  multiply_halves<Half::high, Sum::add>(from, step, sum);
}

// The sums in s16 begin or are added to those in s32.
template <Sum kSum, Groups kGroups, int R>
inline __attribute__((always_inline)) void widen(const Short<R>& sum, Sums<kGroups, R>& sums) {
  constexpr bool kJoins = Sums<kGroups, R>::kJoins;
  const __m256i ones = _mm256_set1_epi16(1), places = _mm256_set1_epi16(256);
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m256i parts[3];
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) parts[i] = _mm256_madd_epi16(sum.of[r][i][h], kJoins && i == 1 ? places : ones);
      if constexpr (kJoins) parts[0] = _mm256_add_epi32(parts[0], parts[1]);
      if constexpr (kJoins) parts[1] = parts[2];
#pragma GCC unroll 3
      for (int i = 0; i < Sums<kGroups, R>::kParts; ++i) {
        __m256i& to = sums.of[r][i][h];
        to = kSum == Sum::begin ? parts[i] : _mm256_add_epi32(to, parts[i]);
      }
    }
  }
}

// The next 4 * 8 elements of K.
template <Sum kSum, Groups kGroups, int R>
inline __attribute__((always_inline)) void add_chunk(Source& from, Sums<kGroups, R>& sums) {
  Short<R> sum;
  multiply_step<Sum::begin>(from, 0, sum);
  multiply_step<Sum::add>(from, 1, sum);
  multiply_step<Sum::add>(from, 2, sum);
  multiply_step<Sum::add>(from, 3, sum);
  from.codes += 4 * 64;
  from.digits += 4 * kFixedPointStep;
  widen<kSum>(sum, sums);
}

// The next 1 to 3 times 8.
template <Sum kSum, Groups kGroups, int R>
inline __attribute__((always_inline)) void add_part(Source& from, std::int64_t steps, Sums<kGroups, R>& sums) {
  Short<R> sum;
  multiply_step<Sum::begin>(from, 0, sum);
  if (steps > 1) multiply_step<Sum::add>(from, 1, sum);
  if (steps > 2) multiply_step<Sum::add>(from, 2, sum);
  from.codes += steps * 64;
  from.digits += steps * kFixedPointStep;
  widen<kSum>(sum, sums);
}

// The sums of a group of steps * 8 elements; codes and digits are zeros behind K.
template <Groups kGroups, int R>
inline __attribute__((always_inline)) void add_group(Source& from, std::int64_t steps, Sums<kGroups, R>& sums) {
  if (steps < 4) return add_part<Sum::begin>(from, steps, sums);
  add_chunk<Sum::begin>(from, sums);
  if constexpr (kGroups == Groups::of_32) return;
  for (steps -= 4; steps >= 4; steps -= 4) add_chunk<Sum::add>(from, sums);
  if (steps > 0) add_part<Sum::add>(from, steps, sums);
}

// What a group of a tile ends with; the next row's `group` is `groups` on.
struct Ends {
  const FixedPointGroup* group;
  const float* sums;  // or null, as are the two below
  const float* scales;
  const std::int16_t* zero_points;
  const float* zeros;
  std::int64_t groups;

  explicit Ends(const Tile& tile) : groups(tile.plan->groups) {
    const LinearFixedPointArgs& args = *tile.args;
    group = args.groups + tile.row * groups;
    sums = args.sums == nullptr ? nullptr : args.sums + tile.row * groups;
    const std::int64_t at = tile.panel * groups * 16;
    scales = args.weight.scales + at;
    zero_points = args.weight.zero_points == nullptr ? nullptr : args.weight.zero_points + at;
    zeros = args.weight.zeros == nullptr ? nullptr : args.weight.zeros + at;
  }
};

// A sum as a float, with -8 for each digit and -z for each where there are zero points.
inline __attribute__((always_inline)) __m256 corrected(__m256i sum, const std::int16_t* z, std::int32_t start,
                                                       std::int32_t digits) {
  sum = _mm256_add_epi32(sum, _mm256_set1_epi32(start));
  if (z != nullptr) {
    __m256i wide = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(z)));
    sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(wide, _mm256_set1_epi32(digits)));
  }
  return _mm256_cvtepi32_ps(sum);
}

// s * unit of 8 columns.
template <Groups kGroups, int R>
inline __attribute__((always_inline)) __m256 group_sum(const Sums<kGroups, R>& sums, int r, int h,
                                                       const FixedPointGroup& group, const std::int16_t* z) {
  constexpr int kTop = Sums<kGroups, R>::kParts - 1;
  __m256 s;
  if constexpr (Sums<kGroups, R>::kJoins) {
    s = corrected(sums.of[r][0][h], z, group.joined_start, group.joined_sum);
  } else {
    s = corrected(sums.of[r][0][h], z, group.starts[0], group.sums[0]);
    __m256 middle = corrected(sums.of[r][1][h], z, group.starts[1], group.sums[1]);
    s = _mm256_fmadd_ps(middle, _mm256_set1_ps(256.0f), s);
  }
  __m256 top = corrected(sums.of[r][kTop][h], z, group.starts[2], group.sums[2]);
  return _mm256_mul_ps(_mm256_fmadd_ps(top, _mm256_set1_ps(65536.0f), s), _mm256_set1_ps(group.unit));
}

// y is [R][16] of the tile.
template <Groups kGroups, int R>
inline __attribute__((always_inline)) void end_group(const Ends& ends, std::int64_t g, const Sums<kGroups, R>& sums,
                                                     float* y) {
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const std::int64_t at = g * 16 + h * 8;
    const std::int16_t* z = ends.zero_points == nullptr ? nullptr : ends.zero_points + at;
    __m256 scale = _mm256_loadu_ps(ends.scales + at);
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      const std::int64_t part = r * ends.groups + g;
      __m256 s = group_sum(sums, r, h, ends.group[part], z);
      float* to = y + r * 16 + h * 8;
      __m256 sum = _mm256_fmadd_ps(s, scale, _mm256_load_ps(to));
      if (ends.zeros != nullptr) {
        sum = _mm256_fmadd_ps(_mm256_set1_ps(ends.sums[part]), _mm256_loadu_ps(ends.zeros + at), sum);
      }
      _mm256_store_ps(to, sum);
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <Groups kGroups, int R>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const LinearFixedPointArgs& args = *tile.args;
  Source from = {args.weight.codes + tile.panel * plan.panel_bytes, args.digits + tile.row * args.row_digits,
                 args.row_digits};
  const Ends ends(tile);
  const std::int64_t groups = plan.groups, group_steps = plan.group / 8;
  std::int64_t left = plan.panel_bytes / 64;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t steps = g + 1 == groups ? left : group_steps;
    left -= steps;
    Sums<kGroups, R> sums;
    add_group(from, steps, sums);
    end_group(ends, g, sums, y);
  }
}

template <Groups kGroups, int R>
void run_tile(const Tile& tile) {
  const NarrowLinearPlan& plan = *tile.plan;
  const float* bias = tile.args->weight.bias;
  alignas(32) float y[R * 16] = {};
  multiply_tile<kGroups, R>(tile, y);
  for (int r = 0; r < R; ++r) {
    for (int h = 0; h < 2; ++h) {
      const std::int64_t column = tile.panel * 16 + h * 8;
      if (column >= plan.columns) continue;
      F32x8 value = load(y + r * 16 + h * 8);
      if (bias != nullptr) value = value + load(bias + column);
      store_first(tile.args->out + (tile.row + r) * plan.columns + column, value, plan.columns - column);
    }
  }
}

template <Groups kGroups>
void run_units(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, 0, unit / plan.row_blocks * kNarrowPanelBlock};
    const std::int64_t first_row = unit % plan.row_blocks * plan.row_block;
    const std::int64_t last_row = min_of(first_row + plan.row_block, plan.rows);
    const std::int64_t last_panel = min_of(tile.panel + kNarrowPanelBlock, plan.panels);
    for (; tile.panel < last_panel; ++tile.panel) {
      for (tile.row = first_row; tile.row + 2 <= last_row; tile.row += 2) run_tile<kGroups, 2>(tile);
      if (tile.row < last_row) run_tile<kGroups, 1>(tile);
    }
  }
}

}  // namespace

void run_linear_fixed_point_avx2(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                 std::int64_t end) {
  if (plan.group == 32) return run_units<Groups::of_32>(plan, args, begin, end);
  if (plan.group <= 256) return run_units<Groups::up_to_256>(plan, args, begin, end);
  run_units<Groups::any>(plan, args, begin, end);
}

}  // namespace aoq::cpu
