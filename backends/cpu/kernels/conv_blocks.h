// How convolutions are cut into units of work, and channels into panels of 16. Shared by the int8 and f32 kernels; not
// for AVX2 translation units.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels/conv_dims.h"

namespace aoq::cpu {

inline constexpr std::int64_t kPanelChannels = 16;
inline constexpr std::int64_t kTilePixels = 6;

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
inline std::int64_t round_up(std::int64_t a, std::int64_t b) {
  return ceil_div(a, b) * b;
}

// `least` or up to twice as much, in steps and at most `most`: the size of blocks that two workers share most evenly.
// larger_share(block) is the larger of their shares.
template <typename Share>
std::int64_t evenly_shared(std::int64_t least, std::int64_t most, std::int64_t step, Share larger_share) {
  std::int64_t best = least;
  for (std::int64_t block = least + step; block <= 2 * least && block <= most; block += step) {
    if (larger_share(block) < larger_share(best)) best = block;
  }
  return best;
}

std::int64_t group_outputs(const ConvDims& dims);
std::int64_t products_per_output(const ConvDims& dims);
std::int64_t panels_per_group(const ConvDims& dims);
// A 1x1 convolution whose im2col row r is pixel r of the input.
bool input_is_matrix(const ConvDims& dims);

struct ConvBlocks {
  std::int64_t row_block, row_blocks;
  std::int64_t panel_block, panel_blocks;
  std::int64_t units;
};
// Rows are split first, at most `max_rows` to a unit; panels only when rows alone give too few units.
ConvBlocks split_conv(const ConvDims& dims, std::int64_t max_rows);

// Rows of bytes, `pitch` apart, that are multiplied with panels of k products in tiles of tile_rows x tile_panels.
struct TiledConv {
  std::int64_t rows, panels, groups, k, pitch;
  std::int64_t tile_rows, tile_panels;
};
// Blocks are as tall as the cache allows. Work that is too little for all workers is split further: along the panels
// where the weights are the larger operand, along the rows first where x is.
ConvBlocks split_tiles(const TiledConv& conv);

}  // namespace aoq::cpu
