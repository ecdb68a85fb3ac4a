// linear_weight_only in block fixed point, AVX2: nibbles are multiplied as unsigned bytes u = c + 8 with the digits of
// x by `vpmaddubsw`, each digit like a row of its own; sums of 32 elements fit s16 (16 products of at most 15 * 128 to
// a lane). The sum of a group is
//
//   S_i = start_i + sum(d_i * u) - z * sum(d_i)     start_i = -8 * sum(d_i)
//
// A tile is one row and a panel, or two rows and half a panel: 6 sums in s16, 6 in s32, codes, x and a product.
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kShortElements = 32;  // whose products s16 holds
constexpr std::int64_t kPrefetchBytes = 2048;

struct AnyInt32 {
  std::int32_t value;
} __attribute__((packed, may_alias));

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearFixedPointArgs* args;
  std::int64_t row, panel;
  int half;  // the first half of the panel
};

enum class Chunk : std::uint8_t { first, later };
enum class Half : std::uint8_t { low, high };

inline void add_s16_in_place(__m256i& sum, __m256i product) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
}

// One half of each byte of codes, times the digits of D rows.
template <Half kHalf, int D, int H>
inline __attribute__((always_inline)) void multiply_halves(const std::byte* codes, const std::int8_t* digits,
                                                           std::int64_t pitch, __m256i (&sum)[D][H]) {
  const __m256i mask = _mm256_set1_epi8(15);
  __m256i u[H];
#pragma GCC unroll 2
  for (int h = 0; h < H; ++h) {
    __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * h));
    u[h] = _mm256_and_si256(kHalf == Half::low ? v : _mm256_srli_epi16(v, 4), mask);
  }
#pragma GCC unroll 6
  for (int d = 0; d < D; ++d) {
    __m256i four = _mm256_set1_epi32(reinterpret_cast<const AnyInt32*>(digits + d * pitch)->value);
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h) add_s16_in_place(sum[d][h], _mm256_maddubs_epi16(u[h], four));
  }
}

// At most 32 elements of K, `count` of them, a multiple of 8 but for zeros behind the end. The first ones of a group
// begin the sums, the later ones are added.
template <Chunk kChunk, int D, int H>
inline __attribute__((always_inline)) void add_chunk(const std::byte* codes, const std::int8_t* digits,
                                                     std::int64_t pitch, std::int64_t count, __m256i (&sums)[D][H]) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[D][H];
#pragma GCC unroll 6
  for (int d = 0; d < D; ++d) {
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h) sum[d][h] = _mm256_setzero_si256();
  }
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < count; k += 8, codes += 64) {
    if constexpr (D == 3) __builtin_prefetch(codes + kPrefetchBytes, 0, 3);
    multiply_halves<Half::low>(codes, digits + k, pitch, sum);
    // Read again rather than kept: there are no registers left.
    asm volatile("" : "+r"(codes));
    multiply_halves<Half::high>(codes, digits + k + 4, pitch, sum);
  }
#pragma GCC unroll 6
  for (int d = 0; d < D; ++d) {
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h) {
      __m256i products = _mm256_madd_epi16(sum[d][h], ones);
      sums[d][h] = kChunk == Chunk::first ? products : _mm256_add_epi32(sums[d][h], products);
    }
  }
}

// S_i of 8 columns with zero points z, null without.
inline __attribute__((always_inline)) __m256 digit_sum(__m256i products, const FixedPointGroup& group, int i,
                                                       const std::int16_t* z) {
  __m256i sum = _mm256_add_epi32(products, _mm256_set1_epi32(group.starts[i]));
  if (z != nullptr) {
    __m256i wide = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(z)));
    sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(wide, _mm256_set1_epi32(group.sums[i])));
  }
  return _mm256_cvtepi32_ps(sum);
}

// y is [R][H * 8] of the tile.
template <int D, int H>
inline __attribute__((always_inline)) void end_group(const Tile& tile, std::int64_t g, const __m256i (&sums)[D][H],
                                                     float* y) {
  const std::int64_t groups = tile.plan->groups;
  const NarrowWeight& weight = tile.args->weight;
#pragma GCC unroll 2
  for (int h = 0; h < H; ++h) {
    const std::int64_t at = (tile.panel * groups + g) * 16 + (tile.half + h) * 8;
    const std::int16_t* z = weight.zero_points == nullptr ? nullptr : weight.zero_points + at;
    __m256 scale = _mm256_loadu_ps(weight.scales + at);
#pragma GCC unroll 2
    for (int r = 0; r < D / 3; ++r) {
      const std::int64_t part = (tile.row + r) * groups + g;
      const FixedPointGroup& group = tile.args->groups[part];
      __m256 s = _mm256_fmadd_ps(digit_sum(sums[3 * r + 1][h], group, 1, z), _mm256_set1_ps(256.0f),
                                 digit_sum(sums[3 * r][h], group, 0, z));
      s = _mm256_fmadd_ps(digit_sum(sums[3 * r + 2][h], group, 2, z), _mm256_set1_ps(65536.0f), s);
      s = _mm256_mul_ps(s, _mm256_set1_ps(group.unit));
      float* to = y + (r * H + h) * 8;
      __m256 sum = _mm256_fmadd_ps(s, scale, _mm256_load_ps(to));
      if (weight.zeros != nullptr) {
        sum = _mm256_fmadd_ps(_mm256_set1_ps(tile.args->sums[part]), _mm256_loadu_ps(weight.zeros + at), sum);
      }
      _mm256_store_ps(to, sum);
    }
  }
}

// Not inlined: g++ 12 would mix the registers of all tiles.
template <int R, int H>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* y) {
  const NarrowLinearPlan& plan = *tile.plan;
  const LinearFixedPointArgs& args = *tile.args;
  const std::byte* codes = args.weight.codes + tile.panel * plan.panel_bytes + tile.half * 32;
  const std::int8_t* digits = args.digits + tile.row * 3 * args.pitch;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t begin = g * plan.group, end = min_of(plan.depth, begin + plan.group);
    __m256i sums[3 * R][H];
    add_chunk<Chunk::first>(codes + begin * 8, digits + begin, args.pitch, min_of(end - begin, kShortElements), sums);
    for (std::int64_t k = begin + kShortElements; k < end; k += kShortElements) {
      add_chunk<Chunk::later>(codes + k * 8, digits + k, args.pitch, min_of(end - k, kShortElements), sums);
    }
    end_group(tile, g, sums, y);
  }
}

template <int R, int H>
void run_tile(const Tile& tile) {
  const NarrowLinearPlan& plan = *tile.plan;
  const float* bias = tile.args->weight.bias;
  alignas(32) float y[R * H * 8] = {};
  multiply_tile<R, H>(tile, y);
  for (int r = 0; r < R; ++r) {
    for (int h = 0; h < H; ++h) {
      const std::int64_t column = tile.panel * 16 + (tile.half + h) * 8;
      if (column >= plan.columns) continue;
      F32x8 value = load(y + (r * H + h) * 8);
      if (bias != nullptr) value = value + load(bias + column);
      store_first(tile.args->out + (tile.row + r) * plan.columns + column, value, plan.columns - column);
    }
  }
}

void run_panel(Tile tile, std::int64_t row_end) {
  for (; tile.row + 2 <= row_end; tile.row += 2) {
    for (tile.half = 0; tile.half < 2; ++tile.half) run_tile<2, 1>(tile);
  }
  tile.half = 0;
  if (tile.row < row_end) run_tile<1, 2>(tile);
}

}  // namespace

void run_linear_fixed_point_avx2(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                 std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    Tile tile = {&plan, &args, unit % plan.row_blocks * plan.row_block, unit / plan.row_blocks * kNarrowPanelBlock, 0};
    const std::int64_t last_row = min_of(tile.row + plan.row_block, plan.rows);
    const std::int64_t last_panel = min_of(tile.panel + kNarrowPanelBlock, plan.panels);
    for (; tile.panel < last_panel; ++tile.panel) run_panel(tile, last_row);
  }
}

}  // namespace aoq::cpu
