// linear_weight_only in block fixed point, AVX2: nibbles are multiplied as unsigned bytes u = c + 8 with the digits of
// x by `vpmaddubsw`, each digit like a row of its own; sums of 32 elements fit s16 (16 products of at most 15 * 128 to
// a lane), and `vpmaddwd` widens them and multiplies d_1 by its 256. The sum of a block is
//
//   S_i = sum(d_i * u) - (8 + z) * sum(d_i)
//
// A tile is one or two rows and a panel: with two 12 sums in s16, two vectors of codes, x and a product.
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/linear_fixed_point_tile.h"
#include "backends/cpu/kernels/narrow_store_avx2.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "ir/narrow_linear.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kBlockSteps = kFixedPointBlock / 8;
enum class Blocks : std::uint8_t { of_32, any };
enum class ZeroPoints : std::uint8_t { integers, others };

// Sums of 32 products, of each digit of each row and both halves of a panel, in s16.
template <int R>
struct Short {
  __m256i of[R][3][2];
};

// The sums of a block in s32: 256 * S_1 + S_0 and S_2.
template <int R>
struct Sums {
  __m256i of[R][2][2];
};

enum class Sum : std::uint8_t { begin, add };

// Numbers of few bits and similar size, as those of bf16 are, have no d_0, which one row then leaves out.
enum class Digits : std::uint8_t { upper, all };
constexpr int first_of(Digits digits) {
  return digits == Digits::upper ? 1 : 0;
}
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

// sum += the products of u and four. Written as two instructions because two rows leave one register for products.
inline void add_products_in_place(__m256i& sum, __m256i u, __m256i four) {
  __m256i products;
  asm volatile(
      "vpmaddubsw %3, %2, %1\n\t"
      "vpaddw %1, %0, %0"
      : "+x"(sum), "=&x"(products)
      : "x"(u), "x"(four));
}

alignas(32) constexpr std::uint8_t kLowHalves[32] = {15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
                                                     15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15};

// One half of each of 32 bytes; with two rows the mask stays in memory.
template <Half kHalf, int R>
inline __m256i halves_of(const std::byte* codes) {
  __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  if constexpr (kHalf == Half::high) v = _mm256_srli_epi16(v, 4);
  if constexpr (R == 1) return _mm256_and_si256(v, _mm256_set1_epi8(15));
  asm volatile("vpand %1, %0, %0" : "+x"(v) : "m"(kLowHalves));
  return v;
}

inline __m256i four_digits(const std::int8_t* digits) {
  return _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(digits));
}

// The products of one row, of which there are registers for all: then additions go together.
template <Digits kDigits, Sum kSum>
inline __attribute__((always_inline)) void multiply_row(const std::int8_t* digits, const __m256i (&u)[2],
                                                        __m256i (&sum)[3][2]) {
  constexpr int kFirst = first_of(kDigits);
  __m256i products[3][2];
#pragma GCC unroll 3
  for (int i = kFirst; i < 3; ++i) {
    __m256i four = four_digits(digits + 8 * i);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m256i& product = kSum == Sum::begin ? sum[i][h] : products[i][h];
      product = _mm256_maddubs_epi16(u[h], four);
      asm volatile("" : "+x"(product));
    }
  }
  if constexpr (kSum == Sum::begin) return;
#pragma GCC unroll 3
  for (int i = kFirst; i < 3; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) add_s16_in_place(sum[i][h], products[i][h]);
  }
}

template <Sum kSum>
inline __attribute__((always_inline)) void multiply_one_of_rows(const std::int8_t* digits, const __m256i (&u)[2],
                                                                __m256i (&sum)[3][2]) {
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    __m256i four = four_digits(digits + 8 * i);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      if constexpr (kSum == Sum::begin) {
        asm volatile("vpmaddubsw %2, %1, %0" : "=x"(sum[i][h]) : "x"(u[h]), "x"(four));
      } else {
        add_products_in_place(sum[i][h], u[h], four);
      }
    }
  }
}

// One half of each byte of codes, times the digits of R rows; the first ones of a sum begin it.
template <Half kHalf, Digits kDigits, Sum kSum, int R>
inline __attribute__((always_inline)) void multiply_halves(const Source& from, int step, Short<R>& sum) {
  const std::byte* codes = from.codes + 64 * step;
  const __m256i u[2] = {halves_of<kHalf, R>(codes), halves_of<kHalf, R>(codes + 32)};
  const std::int8_t* digits = from.digits + kFixedPointStep * step + (kHalf == Half::low ? 0 : 4);
  if constexpr (R == 1) {
    multiply_row<kDigits, kSum>(digits, u, sum.of[0]);
  } else {
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) multiply_one_of_rows<kSum>(digits + r * from.row_digits, u, sum.of[r]);
  }
}

template <Digits kDigits, Sum kSum, int R>
inline __attribute__((always_inline)) void multiply_step(Source& from, int step, Short<R>& sum) {
  if constexpr (R == 1) {
    __builtin_prefetch(from.codes + 64 * step + kNarrowPrefetchCodes, 0, kNarrowPrefetchLevel);
  }
  multiply_halves<Half::low, kDigits, kSum>(from, step, sum);
  // Read again rather than kept: there are no registers left.
  asm volatile("" : "+r"(from.codes));
  multiply_halves<Half::high, kDigits, Sum::add>(from, step, sum);
}

// The sums in s16 begin or are added to those in s32.
template <Digits kDigits, Sum kSum, int R>
inline __attribute__((always_inline)) void widen(const Short<R>& sum, Sums<R>& sums) {
  const __m256i ones = _mm256_set1_epi16(1), places = _mm256_set1_epi16(256);
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m256i low = _mm256_madd_epi16(sum.of[r][1][h], places);
      if constexpr (kDigits == Digits::all) low = _mm256_add_epi32(_mm256_madd_epi16(sum.of[r][0][h], ones), low);
      __m256i top = _mm256_madd_epi16(sum.of[r][2][h], ones);
      sums.of[r][0][h] = kSum == Sum::begin ? low : _mm256_add_epi32(sums.of[r][0][h], low);
      sums.of[r][1][h] = kSum == Sum::begin ? top : _mm256_add_epi32(sums.of[r][1][h], top);
    }
  }
}

// The next 4 * 8 elements of K.
template <Digits kDigits, Sum kSum, int R>
inline __attribute__((always_inline)) void add_chunk(Source& from, Sums<R>& sums) {
  Short<R> sum;
  multiply_step<kDigits, Sum::begin>(from, 0, sum);
  multiply_step<kDigits, Sum::add>(from, 1, sum);
  multiply_step<kDigits, Sum::add>(from, 2, sum);
  multiply_step<kDigits, Sum::add>(from, 3, sum);
  from.codes += 4 * 64;
  from.digits += 4 * kFixedPointStep;
  widen<kDigits, kSum>(sum, sums);
}

// The next 1 to 3 times 8.
template <Digits kDigits, Sum kSum, int R>
inline __attribute__((always_inline)) void add_part(Source& from, std::int64_t steps, Sums<R>& sums) {
  Short<R> sum;
  multiply_step<kDigits, Sum::begin>(from, 0, sum);
  if (steps > 1) multiply_step<kDigits, Sum::add>(from, 1, sum);
  if (steps > 2) multiply_step<kDigits, Sum::add>(from, 2, sum);
  from.codes += steps * 64;
  from.digits += steps * kFixedPointStep;
  widen<kDigits, kSum>(sum, sums);
}

// The sums of a block of steps * 8 elements; codes and digits are zeros behind K.
template <Blocks kBlocks, Digits kDigits, int R>
inline __attribute__((always_inline)) void add_block(Source& from, std::int64_t steps, Sums<R>& sums) {
  if (steps < 4) return add_part<kDigits, Sum::begin>(from, steps, sums);
  add_chunk<kDigits, Sum::begin>(from, sums);
  if constexpr (kBlocks == Blocks::of_32) return;
  for (steps -= 4; steps >= 4; steps -= 4) add_chunk<kDigits, Sum::add>(from, sums);
  if (steps > 0) add_part<kDigits, Sum::add>(from, steps, sums);
}

// The sums of a block without d_0. Not inlined: g++ 12 would mix the registers of both kinds of blocks.
template <int R>
__attribute__((noinline)) Sums<R> upper_sums_of_any(Source from, std::int64_t steps) {
  Sums<R> sums;
  add_block<Blocks::any, Digits::upper>(from, steps, sums);
  return sums;
}

// A block of 32 is too short for a call.
template <Blocks kBlocks, int R>
inline __attribute__((always_inline)) Sums<R> upper_sums(Source& from, std::int64_t steps) {
  Sums<R> sums;
  if constexpr (kBlocks == Blocks::of_32) {
    add_block<kBlocks, Digits::upper>(from, steps, sums);
  } else {
    sums = upper_sums_of_any<R>(from, steps);
    from.codes += steps * 64;
    from.digits += steps * kFixedPointStep;
  }
  return sums;
}

// A sum as a float, with -8 for each digit and -z for each where there are zero points.
template <ZeroPoints kZeroPoints>
inline __attribute__((always_inline)) __m256 corrected(__m256i sum, __m256i z, std::int32_t start,
                                                       std::int32_t digits) {
  sum = _mm256_add_epi32(sum, _mm256_set1_epi32(start));
  if constexpr (kZeroPoints == ZeroPoints::integers) {
    sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(z, _mm256_set1_epi32(digits)));
  }
  return _mm256_cvtepi32_ps(sum);
}

// y is [R][16] of the tile.
template <ZeroPoints kZeroPoints, int R>
inline __attribute__((always_inline)) void end_block(const Ends& ends, std::int64_t g, const Sums<R>& sums, float* y) {
  if constexpr (R == 1) __builtin_prefetch(ends.scales + g * 16 + kNarrowPrefetchScales, 0, kNarrowPrefetchLevel);
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const std::int64_t at = g * 16 + h * 8;
    __m256 scale = _mm256_loadu_ps(ends.scales + at);
    __m256i z = _mm256_setzero_si256();
    if constexpr (kZeroPoints == ZeroPoints::integers) {
      z = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(ends.zero_points + at)));
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      const FixedPointBlock& block = ends.block[r * ends.blocks];
      __m256 low = corrected<kZeroPoints>(sums.of[r][0][h], z, block.low_start, block.low_sum);
      __m256 top = corrected<kZeroPoints>(sums.of[r][1][h], z, block.top_start, block.top_sum);
      __m256 s = _mm256_mul_ps(_mm256_fmadd_ps(top, _mm256_set1_ps(65536.0f), low), _mm256_set1_ps(block.unit));
      float* to = y + r * 16 + h * 8;
      _mm256_store_ps(to, _mm256_fmadd_ps(s, scale, _mm256_load_ps(to)));
    }
  }
}

// Behind a group with float zero points.
template <int R>
void add_zeros(const Ends& ends, std::int64_t g, float* y) {
  for (int r = 0; r < R; ++r) {
    __m256 t = _mm256_set1_ps(ends.sums[r * ends.groups + g]);
    for (int h = 0; h < 2; ++h) {
      float* to = y + r * 16 + h * 8;
      _mm256_store_ps(to, _mm256_fmadd_ps(t, _mm256_loadu_ps(ends.zeros + g * 16 + h * 8), _mm256_load_ps(to)));
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <Blocks kBlocks, ZeroPoints kZeroPoints, int R>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const LinearFixedPointArgs& args = *tile.args;
  Source from = {args.weight.codes + tile.panel * plan.panel_bytes, args.digits + tile.row * args.row_digits,
                 args.row_digits};
  Ends ends(tile);
  const std::int64_t groups = plan.groups, group_steps = plan.group / 8;
  std::int64_t left = plan.panel_bytes / 64;
  for (std::int64_t g = 0; g < groups; ++g) {
    std::int64_t steps = g + 1 == groups ? left : group_steps;
    left -= steps;
    do {
      const std::int64_t block_steps = kBlocks == Blocks::of_32 ? steps : min_of(steps, kBlockSteps);
      if (R == 1 && !ends.block->has_low_digits) {
        end_block<kZeroPoints>(ends, g, upper_sums<kBlocks, R>(from, block_steps), y);
      } else {
        Sums<R> sums;
        add_block<kBlocks, Digits::all>(from, block_steps, sums);
        end_block<kZeroPoints>(ends, g, sums, y);
      }
      ++ends.block;
      steps -= block_steps;
    } while (kBlocks != Blocks::of_32 && steps > 0);
    if (ends.zeros != nullptr) add_zeros<R>(ends, g, y);
  }
}

template <Blocks kBlocks, ZeroPoints kZeroPoints, int R>
void run_tile(const Tile& tile) {
  alignas(32) float y[R * 16] = {};
  multiply_tile<kBlocks, kZeroPoints, R>(tile, y);
  const auto& args = *tile.args;
  store_halves({tile.plan, args.weight.bias, nullptr, args.out, tile.row, tile.panel}, R, 2, y);
}

template <Blocks kBlocks, ZeroPoints kZeroPoints>
void run_units(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t blocks = fixed_point_blocks(plan);
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, 0, unit / plan.row_blocks * kNarrowPanelBlock, 1, blocks};
    const std::int64_t first_row = unit % plan.row_blocks * plan.row_block;
    const std::int64_t last_row = min_of(first_row + plan.row_block, plan.rows);
    const std::int64_t last_panel = min_of(tile.panel + kNarrowPanelBlock, plan.panels);
    for (; tile.panel < last_panel; ++tile.panel) {
      for (tile.row = first_row; tile.row + 2 <= last_row; tile.row += 2) run_tile<kBlocks, kZeroPoints, 2>(tile);
      if (tile.row < last_row) run_tile<kBlocks, kZeroPoints, 1>(tile);
    }
  }
}

}  // namespace

void run_linear_fixed_point_avx2(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                 std::int64_t end) {
  const bool has_zero_points = args.weight.zero_points != nullptr;
  if (plan.group == 32 && has_zero_points)
    return run_units<Blocks::of_32, ZeroPoints::integers>(plan, args, begin, end);
  if (plan.group == 32) return run_units<Blocks::of_32, ZeroPoints::others>(plan, args, begin, end);
  if (has_zero_points) return run_units<Blocks::any, ZeroPoints::integers>(plan, args, begin, end);
  run_units<Blocks::any, ZeroPoints::others>(plan, args, begin, end);
}

}  // namespace aoq::cpu
