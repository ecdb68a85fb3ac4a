// linear_dynamic of many rows, AVX2: of each panel nibbles become bytes c once for a block of rows, which multiply the
// unsigned codes u = x + 128 by `vpmaddubsw`. Sums of 32 elements fit s16 (16 products of at most 8 * 255 to a lane).
// With xz the zero point of x the sum of a group is
//
//   sum((x - xz) * (c - z)) = sum(u * c) - (128 + xz) * sum(c) - sum(x - xz) * z
//
// The last two parts are one `vpmaddwd`, of a pair of s16 of each column with one of the row, which holds both as
// groups have at most kMostDecodedGroup elements.
//
// A decoded panel is [K / 4][16][4], then the pairs (sum(c), z) of its columns, [groups][16].
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/narrow_store_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kChunk = 32;  // elements whose products s16 holds
enum class Groups : std::uint8_t { of_32, any };

// The panel that a worker multiplies, in its scratch.
struct Decoded {
  std::int8_t* codes;
  std::int32_t* pairs;

  Decoded(const NarrowLinearPlan& plan, std::byte* scratch)
      : codes(reinterpret_cast<std::int8_t*>(scratch)),
        pairs(reinterpret_cast<std::int32_t*>(scratch + 2 * plan.panel_bytes)) {}
};

// The first `count` bytes of each four.
inline __m256i first_bytes(std::int64_t count) {
  const std::uint32_t mask = count >= 4 ? ~0u : count <= 0 ? 0u : (1u << (8 * count)) - 1;
  return _mm256_set1_epi32(static_cast<int>(mask));
}

// Eight elements of the panel, of which `left` are of K, the others 0; pairs of them are added to sums.
inline void decode_step(const std::byte* codes, std::int64_t left, std::int8_t* out, __m256i (&sums)[2]) {
  for (int h = 0; h < 2; ++h) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * h));
    const __m256i parts[2] = {v, _mm256_srli_epi16(v, 4)};
    for (int i = 0; i < 2; ++i) {
      __m256i c = _mm256_sub_epi8(_mm256_and_si256(parts[i], _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
      if (left < 8) c = _mm256_and_si256(c, first_bytes(left - 4 * i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 64 * i + 32 * h), c);
      sums[h] = _mm256_add_epi16(sums[h], _mm256_maddubs_epi16(_mm256_set1_epi8(1), c));
    }
  }
}

// (sum(c), z) of eight columns, whose sums have two parts each.
inline __m256i pairs_of(__m256i sums, const std::int16_t* zero_points) {
  sums = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
  __m256i z = _mm256_setzero_si256();
  if (zero_points != nullptr) {
    z = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zero_points)));
  }
  return _mm256_blend_epi16(sums, _mm256_slli_epi32(z, 16), 0xaa);
}

void decode_panel(const NarrowLinearPlan& plan, const NarrowWeight& weight, std::int64_t panel, const Decoded& to) {
  const std::byte* codes = weight.codes + panel * plan.panel_bytes;
  std::int8_t* out = to.codes;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t end = min_of(plan.depth, (g + 1) * plan.group);
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::int64_t k = g * plan.group; k < end; k += 8, codes += 64, out += 128) {
      decode_step(codes, plan.depth - k, out, sums);
    }
    for (int h = 0; h < 2; ++h) {
      const std::int64_t at = (panel * plan.groups + g) * 16 + h * 8;
      const std::int16_t* z = weight.zero_points == nullptr ? nullptr : weight.zero_points + at;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.pairs + g * 16 + h * 8), pairs_of(sums[h], z));
    }
  }
}

// R rows and a panel. For every kChunk elements it asks for the next line from `ahead` on.
struct Tile {
  const NarrowLinearPlan* plan;
  const LinearDynamicArgs* args;
  const Decoded* decoded;
  std::int64_t row, panel;
  const std::byte* ahead;
};

// What the i-th tile of a panel asks for: four of them for the codes of the next panel, one for its scales.
inline const std::byte* ahead_of(const NarrowLinearPlan& plan, const NarrowWeight& weight, std::int64_t panel,
                                 std::int64_t i) {
  if (i < 4) return weight.codes + (panel + 1) * plan.panel_bytes + i * (plan.panel_bytes / 4);
  return reinterpret_cast<const std::byte*>(weight.scales + (panel + (i == 4 ? 1 : 0)) * plan.groups * 16);
}

// Of each row and half of a panel.
template <int R>
struct Sums {
  __m256i of[R][2];
};

enum class Sum : std::uint8_t { begin, add };

// The products of four elements of K, in s16.
template <Sum kSum, int R>
inline __attribute__((always_inline)) void multiply_four(const std::int8_t* codes, const std::int8_t* x,
                                                         std::int64_t pitch, Sums<R>& sums) {
  __m256i c[2] = {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)),
                  _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32))};
  // Else g++ reads them again for each row, and loads are what limits then.
  asm volatile("" : "+x"(c[0]), "+x"(c[1]));
#pragma GCC unroll 3
  for (int r = 0; r < R; ++r) {
    const __m256i u = _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(x + r * pitch));
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i products = _mm256_maddubs_epi16(u, c[h]);
      if constexpr (kSum == Sum::begin) {
        sums.of[r][h] = products;
        asm volatile("" : "+x"(sums.of[r][h]));
      } else {
        asm volatile("vpaddw %1, %0, %0" : "+x"(sums.of[r][h]) : "x"(products));
      }
    }
  }
}

// The products of kChunk elements.
template <int R>
inline __attribute__((always_inline)) void multiply_chunk(const std::int8_t* codes, const std::int8_t* x,
                                                          std::int64_t pitch, Sums<R>& sums) {
  multiply_four<Sum::begin>(codes, x, pitch, sums);
#pragma GCC unroll 7
  for (std::int64_t k = 4; k < kChunk; k += 4) multiply_four<Sum::add>(codes + k * 16, x + k, pitch, sums);
}

// The products of `count` elements, a multiple of 4 but for zeros behind the end, fewer than kChunk.
template <int R>
inline __attribute__((always_inline)) void multiply_part(const std::int8_t* codes, const std::int8_t* x,
                                                         std::int64_t pitch, std::int64_t count, Sums<R>& sums) {
  multiply_four<Sum::begin>(codes, x, pitch, sums);
  for (std::int64_t k = 4; k < count; k += 4) multiply_four<Sum::add>(codes + k * 16, x + k, pitch, sums);
}

// The sums in s16 begin or are added to those in s32.
template <Sum kSum, int R>
inline __attribute__((always_inline)) void widen(const Sums<R>& part, Sums<R>& sums) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 3
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i wide = _mm256_madd_epi16(part.of[r][h], ones);
      sums.of[r][h] = kSum == Sum::begin ? wide : _mm256_add_epi32(sums.of[r][h], wide);
    }
  }
}

// Where a tile's operands lie, which go from group to group.
struct Source {
  const std::int8_t *codes, *x;
  const std::int32_t *pairs, *row_pairs;
  const float* scales;
  const std::byte* ahead;
  std::int64_t pitch, groups;

  explicit Source(const Tile& tile)
      : codes(tile.decoded->codes),
        x(tile.args->x + tile.row * tile.args->pitch),
        pairs(tile.decoded->pairs),
        row_pairs(tile.args->starts + tile.row * tile.plan->groups),
        scales(tile.args->weight.scales + tile.panel * tile.plan->groups * 16),
        ahead(tile.ahead),
        pitch(tile.args->pitch),
        groups(tile.plan->groups) {}
  void pass(std::int64_t count) {
    __builtin_prefetch(ahead, 0, kNarrowPrefetchLevel);
    ahead += 64;
    codes += count * 16;
    x += count;
  }
};

// The products of a group of `count` elements.
template <int R>
inline __attribute__((always_inline)) void multiply_group(Source& from, std::int64_t count, Sums<R>& sums) {
  Sums<R> part;
  if (count < kChunk) {
    multiply_part(from.codes, from.x, from.pitch, count, part);
    from.pass(count);
    return widen<Sum::begin>(part, sums);
  }
  multiply_chunk(from.codes, from.x, from.pitch, part);
  from.pass(kChunk);
  widen<Sum::begin>(part, sums);
  for (count -= kChunk; count >= kChunk; count -= kChunk) {
    multiply_chunk(from.codes, from.x, from.pitch, part);
    from.pass(kChunk);
    widen<Sum::add>(part, sums);
  }
  if (count <= 0) return;
  multiply_part(from.codes, from.x, from.pitch, count, part);
  from.pass(count);
  widen<Sum::add>(part, sums);
}

// What a group adds to y.
template <int R>
inline __attribute__((always_inline)) void end_group(Source& from, const Sums<R>& sums, __m256 (&y)[R][2]) {
#pragma GCC unroll 3
  for (int r = 0; r < R; ++r) {
    const __m256i row_pair = _mm256_set1_epi32(from.row_pairs[r * from.groups]);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.pairs + h * 8));
      const __m256i sum = _mm256_add_epi32(sums.of[r][h], _mm256_madd_epi16(pair, row_pair));
      y[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(from.scales + h * 8), y[r][h]);
      asm volatile("" : "+x"(y[r][h]));
    }
  }
  from.pairs += 16;
  from.scales += 16;
  ++from.row_pairs;
}

// Not inlined: g++ 12 would mix the registers of all tiles. out is [R][16].
template <Groups kGroups, int R>
__attribute__((noinline)) void multiply_tile(const Tile& tile, float* out) {
  const std::int64_t group = kGroups == Groups::of_32 ? kChunk : tile.plan->group;
  Source from(tile);
  __m256 y[R][2];
#pragma GCC unroll 3
  for (int r = 0; r < R; ++r) y[r][0] = y[r][1] = _mm256_setzero_ps();
  std::int64_t left = tile.plan->depth;
  if constexpr (kGroups == Groups::of_32) {
    for (; left >= kChunk; left -= kChunk) {
      Sums<R> part, sums;
      multiply_chunk(from.codes, from.x, from.pitch, part);
      from.pass(kChunk);
      widen<Sum::begin>(part, sums);
      end_group(from, sums, y);
    }
    if (left > 0) {
      Sums<R> part, sums;
      multiply_part(from.codes, from.x, from.pitch, left, part);
      widen<Sum::begin>(part, sums);
      end_group(from, sums, y);
    }
  } else {
    for (; left > 0; left -= group) {
      Sums<R> sums;
      multiply_group(from, min_of(group, left), sums);
      end_group(from, sums, y);
    }
  }
#pragma GCC unroll 3
  for (int r = 0; r < R; ++r) {
    _mm256_store_ps(out + r * 16, y[r][0]);
    _mm256_store_ps(out + r * 16 + 8, y[r][1]);
  }
}

template <Groups kGroups, int R>
void run_tile(const Tile& tile) {
  const LinearDynamicArgs& args = *tile.args;
  alignas(32) float y[R * 16];
  multiply_tile<kGroups, R>(tile, y);
  store_halves({tile.plan, args.weight.bias, args.x_scales, args.out, tile.row, tile.panel}, R, 2, y);
}

template <Groups kGroups>
void run_rows(Tile tile, std::int64_t row_end) {
  constexpr void (*kTiles[])(const Tile&) = {run_tile<kGroups, 1>, run_tile<kGroups, 2>, run_tile<kGroups, 3>};
  for (std::int64_t i = 0, left = row_end - tile.row; left > 0; ++i) {
    tile.ahead = ahead_of(*tile.plan, tile.args->weight, tile.panel, i);
    const std::int64_t rows = left == 4 ? 2 : min_of(left, 3);
    kTiles[rows - 1](tile);
    tile.row += rows;
    left -= rows;
  }
}

}  // namespace

void run_linear_dynamic_decoded_avx2(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                                     std::int64_t end, std::byte* scratch) {
  const Decoded decoded(plan, scratch);
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t row = unit % plan.row_blocks * plan.row_block;
    const std::int64_t last_row = min_of(row + plan.row_block, plan.rows);
    const std::int64_t first = unit / plan.row_blocks * kNarrowPanelBlock;
    for (std::int64_t panel = first; panel < min_of(first + kNarrowPanelBlock, plan.panels); ++panel) {
      decode_panel(plan, args.weight, panel, decoded);
      const Tile tile = {&plan, &args, &decoded, row, panel, nullptr};
      plan.group == kChunk ? run_rows<Groups::of_32>(tile, last_row) : run_rows<Groups::any>(tile, last_row);
    }
  }
}

}  // namespace aoq::cpu
