// linear_dynamic, AVX2, where panels are not decoded. Nibbles are multiplied as unsigned bytes u = c + 8 by
// `vpmaddubsw`, whose sums of 32 elements fit s16 (16 products of at most 15 * 128 to a lane); with xz the zero point
// of x the sum of a group is
//
//   sum((x - xz) * (c - z)) = start + sum(x * u) - xz * sum(u) - z * sum(x - xz)     start = -8 * sum(x - xz)
//
// Bytes are widened and multiplied by x - xz in s16 with `vpmaddwd`. Nothing saturates.
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/narrow_store_avx2.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kShortElements = 32;  // whose products s16 holds

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearDynamicArgs* args;
  std::int64_t row, panel;
};

// The sums of one group, of products and of the codes of each column, for both halves of a panel.
template <int R>
struct Sums {
  __m256i products[R][2];
  __m256i codes[2];
};

enum class Chunk : std::uint8_t { first, later };

inline void add_s16_in_place(__m256i& sum, __m256i product) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
}

// Unsigned codes of 4 elements of 16 columns, 8 columns to a vector.
struct Codes {
  __m256i half[2];
};

enum class Half : std::uint8_t { low, high };

// One half of each byte of a panel's 64, which are added to total[h] where the zero point of x asks for their sum.
template <Half kHalf, bool kAffine>
inline __attribute__((always_inline)) Codes halves_of(const std::byte* codes, __m256i mask, __m256i (&total)[2]) {
  Codes u;
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * h));
    u.half[h] = _mm256_and_si256(kHalf == Half::low ? v : _mm256_srli_epi16(v, 4), mask);
    if constexpr (kAffine) {
      total[h] = _mm256_add_epi8(total[h], u.half[h]);
      asm volatile("" : "+x"(total[h]));
    }
  }
  return u;
}

template <int R>
inline __attribute__((always_inline)) void multiply_nibbles(const Codes& u, const std::int8_t* x, std::int64_t pitch,
                                                            __m256i (&sum)[R][2]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    __m256i four = _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(x + r * pitch));
    add_s16_in_place(sum[r][0], _mm256_maddubs_epi16(u.half[0], four));
    add_s16_in_place(sum[r][1], _mm256_maddubs_epi16(u.half[1], four));
  }
}

// At most 32 elements of K, `count` of them, a multiple of 8 but for zeros behind the end. The first ones of a group
// begin the sums, the later ones are added.
template <Chunk kChunk, bool kAffine, int R>
inline __attribute__((always_inline)) void add_nibbles(const std::byte* codes, const std::int8_t* x, std::int64_t pitch,
                                                       std::int64_t count, Sums<R>& sums) {
  const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i sum[R][2], total[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < count; k += 8, codes += 64) {
    if constexpr (R <= 2) __builtin_prefetch(codes + kNarrowPrefetchCodes, 0, kNarrowPrefetchLevel);
    multiply_nibbles<R>(halves_of<Half::low, kAffine>(codes, mask, total), x + k, pitch, sum);
    // Read again: a tile of four rows has no registers left to keep both halves in.
    asm volatile("" : "+r"(codes));
    multiply_nibbles<R>(halves_of<Half::high, kAffine>(codes, mask, total), x + k + 4, pitch, sum);
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      __m256i products = _mm256_madd_epi16(sum[r][h], ones);
      sums.products[r][h] = kChunk == Chunk::first ? products : _mm256_add_epi32(sums.products[r][h], products);
    }
    if constexpr (kAffine) {
      __m256i pairs = _mm256_maddubs_epi16(total[h], _mm256_set1_epi8(1));
      __m256i codes_sum = _mm256_madd_epi16(pairs, ones);
      sums.codes[h] = kChunk == Chunk::first ? codes_sum : _mm256_add_epi32(sums.codes[h], codes_sum);
    }
  }
}

// The products of `count` elements, a multiple of 4 but for zeros behind the end, with 4 * Q columns of the panel; two
// sums for each column.
template <int R, int Q>
inline __attribute__((always_inline)) void multiply_bytes(const std::byte* codes, const std::int16_t* x,
                                                          std::int64_t pitch, std::int64_t count,
                                                          __m256i (&sum)[R][Q]) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) sum[r][q] = _mm256_setzero_si256();
  }
  for (std::int64_t k = 0; k < count; k += 4, codes += 64) {
    __m256i w[Q];
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      w[q] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * q)));
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      __m256i four = _mm256_set1_epi64x(*reinterpret_cast<const AnyInt64*>(x + r * pitch + k));
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) add_s32_in_place(sum[r][q], _mm256_madd_epi16(w[q], four));
    }
  }
}

inline __m256i join_pairs(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
}

// Many rows take half a panel at a time: 12 sums, 2 weights, one x and one product are all 16 registers.
template <int R>
inline __attribute__((always_inline)) void add_bytes(const std::byte* codes, const std::int16_t* x, std::int64_t pitch,
                                                     std::int64_t count, Sums<R>& sums) {
  if constexpr (R > 2) {
    for (int h = 0; h < 2; ++h) {
      __m256i sum[R][2];
      multiply_bytes<R, 2>(codes + 32 * h, x, pitch, count, sum);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) sums.products[r][h] = join_pairs(sum[r][0], sum[r][1]);
    }
  } else {
    __m256i sum[R][4];
    multiply_bytes<R, 4>(codes, x, pitch, count, sum);
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      sums.products[r][0] = join_pairs(sum[r][0], sum[r][1]);
      sums.products[r][1] = join_pairs(sum[r][2], sum[r][3]);
    }
  }
}

// y is [R][16] of the tile.
template <bool kAffine, int R>
inline __attribute__((always_inline)) void end_group(const Tile& tile, std::int64_t g, const Sums<R>& sums, float* y) {
  const std::int64_t groups = tile.plan->groups;
  // Else g++ keeps y in registers through the groups, which it does not have.
  if constexpr (R >= 4) asm volatile("" : "+r"(y));
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const std::int64_t at = (tile.panel * groups + g) * 16 + h * 8;
    __m256 scale = _mm256_loadu_ps(tile.args->weight.scales + at);
    if constexpr (R <= 2) {
      if (h == 0) __builtin_prefetch(tile.args->weight.scales + at + kNarrowPrefetchScales, 0, kNarrowPrefetchLevel);
    }
    const bool has_zero_points = tile.args->weight.zero_points != nullptr;
    __m256i z = _mm256_setzero_si256();
    if (has_zero_points) {
      z = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tile.args->weight.zero_points + at)));
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const std::int64_t part = (tile.row + r) * groups + g;
      __m256i sum = _mm256_add_epi32(sums.products[r][h], _mm256_set1_epi32(tile.args->starts[part]));
      if (has_zero_points) {
        sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(z, _mm256_set1_epi32(tile.args->sums[part])));
      }
      if constexpr (kAffine) {
        __m256i x_zero_point = _mm256_set1_epi32(tile.args->x_zero_points[tile.row + r]);
        sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(x_zero_point, sums.codes[h]));
      }
      float* to = y + r * 16 + h * 8;
      _mm256_store_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, _mm256_load_ps(to)));
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <bool kNibbles, bool kAffine, int R>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const LinearDynamicArgs& args = *tile.args;
  const std::byte* codes = args.weight.codes + tile.panel * plan.panel_bytes;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t begin = g * plan.group, end = min_of(plan.depth, begin + plan.group);
    Sums<R> sums;
    if constexpr (kNibbles) {
      const std::int8_t* x = args.x + tile.row * args.pitch;
      add_nibbles<Chunk::first, kAffine>(codes + begin * 8, x + begin, args.pitch, min_of(end - begin, kShortElements),
                                         sums);
      for (std::int64_t k = begin + kShortElements; k < end; k += kShortElements) {
        add_nibbles<Chunk::later, kAffine>(codes + k * 8, x + k, args.pitch, min_of(end - k, kShortElements), sums);
      }
    } else {
      add_bytes<R>(codes + begin * 16, args.x16 + tile.row * args.pitch + begin, args.pitch, end - begin, sums);
    }
    end_group<kNibbles && kAffine>(tile, g, sums, y);
  }
}

template <bool kNibbles, bool kAffine, int R>
void run_tile(const Tile& tile) {
  alignas(32) float y[R * 16] = {};
  multiply_tile<kNibbles, kAffine, R>(tile, y);
  const auto& args = *tile.args;
  store_halves({tile.plan, args.weight.bias, args.x_scales, args.out, tile.row, tile.panel}, R, 2, y);
}

template <bool kNibbles, bool kAffine>
void run_rows(Tile tile, std::int64_t row_end) {
  if constexpr (!kNibbles) {
    for (; tile.row + 6 <= row_end; tile.row += 6) run_tile<kNibbles, kAffine, 6>(tile);
  }
  for (; tile.row + 4 <= row_end; tile.row += 4) run_tile<kNibbles, kAffine, 4>(tile);
  for (; tile.row + 2 <= row_end; tile.row += 2) run_tile<kNibbles, kAffine, 2>(tile);
  for (; tile.row < row_end; ++tile.row) run_tile<kNibbles, kAffine, 1>(tile);
}

template <bool kNibbles, bool kAffine>
void run_units(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock};
    const std::int64_t last_row = min_of(tile.row + plan.row_block, plan.rows);
    const std::int64_t last_panel = min_of(tile.panel + kNarrowPanelBlock, plan.panels);
    for (; tile.panel < last_panel; ++tile.panel) run_rows<kNibbles, kAffine>(tile, last_row);
  }
}

}  // namespace

void run_linear_dynamic_avx2(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                             std::int64_t end) {
  if (plan.codes != NarrowCodes::nibble_integers) return run_units<false, false>(plan, args, begin, end);
  if (args.has_x_zero_points) return run_units<true, true>(plan, args, begin, end);
  run_units<true, false>(plan, args, begin, end);
}

}  // namespace aoq::cpu
