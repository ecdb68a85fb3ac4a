// AVX2 int8 convolution: tiles of up to 6 pixels x 16 channels, `vpmaddwd` on pairs of K.
//
// Per pair of K a tile loads 32 weight bytes, widens them to two vectors of s16 pairs, and multiplies them with each
// pixel's broadcast pair: 12 accumulators, 2 weights, 1 broadcast and 1 product are all 16 registers.
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/im2col_s16_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kTileRows = 6;

// sum[row][half] of kRows rows of s16 pairs (`pitch` values apart) and kHalves times 8 columns of one panel.
template <int kRows, int kHalves>
inline __attribute__((always_inline)) void multiply(const std::int16_t* a, std::int64_t pitch, const std::byte* weights,
                                                    std::int64_t k_pairs, __m256i (&sum)[kRows][kHalves]) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) sum[r][h] = _mm256_setzero_si256();
  }
#pragma GCC unroll 2
  for (std::int64_t pair = 0; pair < k_pairs; ++pair) {
    __m256i w[kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) w[h] = _mm256_cvtepi8_epi16(load_bytes(weights + 32 * pair + 16 * h));
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      __m256i x = _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(a + r * pitch + 2 * pair));
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) add_s32_in_place(sum[r][h], _mm256_madd_epi16(x, w[h]));
    }
  }
}

// Rows of s16 pairs, `pitch` values apart, and one panel of 16 columns.
struct Tile {
  const std::int16_t* a;
  std::int64_t pitch;
  const std::byte* weights;
  std::int64_t k_pairs;
};

// The sums go to memory, [row][16], and are finished from there: finishing them in registers in the same function makes
// g++ 12 keep them on the stack during the loop.
template <int kRows, int kHalves>
inline __attribute__((always_inline)) void multiply_into(const Tile& tile, std::int32_t* acc) {
  __m256i sum[kRows][kHalves];
  multiply<kRows, kHalves>(tile.a, tile.pitch, tile.weights, tile.k_pairs, sum);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * r + 8 * h), sum[r][h]);
  }
}

template <int kRows, int kHalves>
void multiply_to_memory(const Tile& tile, std::int32_t* acc) {
  multiply_into<kRows, kHalves>(tile, acc);
}

template <int kRows, int kHalves, bool kSigned>
void multiply_to_codes(const Tile& tile, const PlainEpilogue& e, std::uint8_t* out, std::int64_t pitch) {
  alignas(32) std::int32_t acc[kRows * 16];
  multiply_into<kRows, kHalves>(tile, acc);
  asm volatile("" : : "r"(acc) : "memory");
  finish_codes<kRows, kHalves, kSigned, Addend::none>(e, acc, {out, nullptr, pitch});
}

using ToMemory = void (*)(const Tile&, std::int32_t*);
using ToCodes = void (*)(const Tile&, const PlainEpilogue&, std::uint8_t*, std::int64_t);

template <int kHalves>
ToMemory to_memory(std::int64_t rows) {
  constexpr ToMemory kTiles[] = {multiply_to_memory<1, kHalves>, multiply_to_memory<2, kHalves>,
                                 multiply_to_memory<3, kHalves>, multiply_to_memory<4, kHalves>,
                                 multiply_to_memory<5, kHalves>, multiply_to_memory<6, kHalves>};
  return kTiles[rows - 1];
}

template <int kHalves, bool kSigned>
ToCodes to_codes(std::int64_t rows) {
  constexpr ToCodes kTiles[] = {multiply_to_codes<1, kHalves, kSigned>, multiply_to_codes<2, kHalves, kSigned>,
                                multiply_to_codes<3, kHalves, kSigned>, multiply_to_codes<4, kHalves, kSigned>,
                                multiply_to_codes<5, kHalves, kSigned>, multiply_to_codes<6, kHalves, kSigned>};
  return kTiles[rows - 1];
}

ToCodes to_codes_of(const ConvS8Plan& plan, std::int64_t rows, std::int64_t columns) {
  const bool is_signed = plan.epilogue.out_type == DType::i8;
  if (columns == 16) return is_signed ? to_codes<2, true>(rows) : to_codes<2, false>(rows);
  return is_signed ? to_codes<1, true>(rows) : to_codes<1, false>(rows);
}

// One panel of a block of rows.
void multiply_panel(const ConvS8Plan& plan, const ConvS8Args& args, const ConvUnit& block, Tile tile,
                    std::int64_t panel) {
  std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  std::int64_t columns = min_of(group_out - panel * 16, 16);
  TileTarget target = {.rows = kTileRows,
                       .columns = columns,
                       .index = block.row_begin * plan.dims.out_c + block.group * group_out + panel * 16,
                       .pitch = plan.dims.out_c,
                       .channel = (block.group * plan.panels + panel) * 16};
  alignas(32) std::int32_t acc[kTileRows * 16] = {};
  PlainEpilogue plain = plain_epilogue(plan.epilogue, args.epilogue, target.channel);
  bool is_plain =
      has_plain_epilogue(plan.epilogue, args.epilogue, plan.k, target.channel, columns) && !plan.epilogue.has_residual;
  auto* out = static_cast<std::uint8_t*>(args.epilogue.out);
  for (std::int64_t left = block.row_end - block.row_begin; left > 0; left -= kTileRows) {
    target.rows = min_of(left, kTileRows);
    if (is_plain) {
      ToCodes multiply = to_codes_of(plan, target.rows, columns);
      multiply(tile, plain, out + target.index, target.pitch);
    } else {
      ToMemory multiply = columns > 8 ? to_memory<2>(target.rows) : to_memory<1>(target.rows);
      multiply(tile, acc);
      store_tile(plan.epilogue, args.epilogue, target, acc);
    }
    tile.a += kTileRows * tile.pitch;
    target.index += kTileRows * target.pitch;
  }
}

void multiply_block(const ConvS8Plan& plan, const ConvS8Args& args, const ConvUnit& block, const std::int16_t* a) {
  std::int64_t k_pairs = (plan.k + 1) / 2;
  for (std::int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    Tile tile = {.a = a,
                 .pitch = 2 * k_pairs,
                 .weights = args.weights + (block.group * plan.panels + panel) * k_pairs * 32,
                 .k_pairs = k_pairs};
    multiply_panel(plan, args, block, tile, panel);
  }
}

}  // namespace

void run_conv_s8_avx2(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                      std::byte* scratch) {
  const ConvDims& d = plan.dims;
  auto* a = reinterpret_cast<std::int16_t*>(scratch);
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  ByteSource source = {x, x + d.batch * d.in_h * d.in_w * d.in_c, args.x_zero_point};
  std::int64_t widened = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit block = unit_at(plan, unit);
    // Units that follow each other share their rows when only the panels differ.
    if (widened != block.row_unit) {
      if (plan.x_type == DType::i8) {
        widen_rows<true>(plan, source, block.group, block.row_begin, block.row_end, a);
      } else {
        widen_rows<false>(plan, source, block.group, block.row_begin, block.row_end, a);
      }
      widened = block.row_unit;
    }
    multiply_block(plan, args, block, a);
  }
}

}  // namespace aoq::cpu
