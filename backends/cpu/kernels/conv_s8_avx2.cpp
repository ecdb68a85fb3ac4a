// AVX2 int8 convolution: tiles of up to 6 pixels x 16 channels, `vpmaddwd` on pairs of K.
//
// Per pair of K a tile loads 32 weight bytes, widens them to two vectors of s16 pairs, and multiplies them with each
// pixel's broadcast pair: 12 accumulators, 2 weights, 1 broadcast and 1 product are all 16 registers.
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/im2col_s16_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kTileRows = 6;

// acc[row][16] of kRows rows of s16 pairs (`pitch` values apart) and kHalves times 8 columns of one panel.
template <int kRows, int kHalves>
inline void multiply_tile(const std::int16_t* a, std::int64_t pitch, const std::byte* weights, std::int64_t k_pairs,
                          std::int32_t* acc) {
  __m256i sum[kRows][kHalves];
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
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * r + 8 * h), sum[r][h]);
  }
}

using MultiplyTile = void (*)(const std::int16_t*, std::int64_t, const std::byte*, std::int64_t, std::int32_t*);

template <int kHalves>
MultiplyTile tile_of(std::int64_t rows) {
  constexpr MultiplyTile kTiles[] = {multiply_tile<1, kHalves>, multiply_tile<2, kHalves>, multiply_tile<3, kHalves>,
                                     multiply_tile<4, kHalves>, multiply_tile<5, kHalves>, multiply_tile<6, kHalves>};
  return kTiles[rows - 1];
}

struct Block {
  std::int64_t row_begin, row_end;
  std::int64_t group;
  std::int64_t panel_begin, panel_end;
};

void multiply_block(const ConvS8Plan& plan, const ConvS8Args& args, const Block& block, const std::int16_t* a) {
  std::int64_t k_pairs = (plan.k + 1) / 2;
  std::int64_t pitch = 2 * k_pairs;
  std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  alignas(32) std::int32_t acc[kTileRows * 16] = {};
  for (std::int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    const std::byte* weights = args.weights + (block.group * plan.panels + panel) * k_pairs * 32;
    std::int64_t columns = min_of(group_out - panel * 16, 16);
    for (std::int64_t row = block.row_begin; row < block.row_end; row += kTileRows) {
      std::int64_t rows = min_of(block.row_end - row, kTileRows);
      MultiplyTile multiply = columns > 8 ? tile_of<2>(rows) : tile_of<1>(rows);
      multiply(a + (row - block.row_begin) * pitch, pitch, weights, k_pairs, acc);
      TileTarget target = {.rows = rows,
                           .columns = columns,
                           .index = row * plan.dims.out_c + block.group * group_out + panel * 16,
                           .pitch = plan.dims.out_c,
                           .channel = (block.group * plan.panels + panel) * 16};
      store_tile(plan.epilogue, args.epilogue, target, acc);
    }
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
    Block block;
    block.panel_begin = unit % plan.panel_blocks * plan.panel_block;
    block.panel_end = min_of(block.panel_begin + plan.panel_block, plan.panels);
    std::int64_t row_unit = unit / plan.panel_blocks;
    block.group = row_unit % d.groups;
    block.row_begin = row_unit / d.groups * plan.row_block;
    block.row_end = min_of(block.row_begin + plan.row_block, plan.rows);
    // Units that follow each other share their rows when only the panels differ.
    if (widened != row_unit) {
      if (plan.x_type == DType::i8) {
        widen_rows<true>(plan, source, block.group, block.row_begin, block.row_end, a);
      } else {
        widen_rows<false>(plan, source, block.group, block.row_begin, block.row_end, a);
      }
      widened = row_unit;
    }
    multiply_block(plan, args, block, a);
  }
}

}  // namespace aoq::cpu
