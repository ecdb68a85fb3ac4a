#include "backends/cpu/kernels/conv_blocks.h"

#include <algorithm>

namespace aoq::cpu {
namespace {

// Below this much work a unit costs more to hand to a thread than it saves.
constexpr std::int64_t kMinUnitProducts = 256 * 1024;
constexpr std::int64_t kMinTiledProducts = 1024 * 1024;
constexpr std::int64_t kWantedUnits = 16;
// Rows of a unit: with the panels that stream by they stay in a second-level cache of 512 KiB or more.
constexpr std::int64_t kRowBytes = 256 * 1024;

}  // namespace

std::int64_t group_outputs(const ConvDims& dims) {
  return dims.out_c / dims.groups;
}
std::int64_t products_per_output(const ConvDims& dims) {
  return dims.kernel_h * dims.kernel_w * (dims.in_c / dims.groups);
}
std::int64_t panels_per_group(const ConvDims& dims) {
  return ceil_div(group_outputs(dims), kPanelChannels);
}

bool input_is_matrix(const ConvDims& d) {
  return d.kernel_h == 1 && d.kernel_w == 1 && d.stride_h == 1 && d.stride_w == 1 && d.pad_top == 0 &&
         d.pad_left == 0 && d.out_h == d.in_h && d.out_w == d.in_w;
}

ConvBlocks split_conv(const ConvDims& dims, std::int64_t max_rows) {
  ConvBlocks blocks = {};
  std::int64_t rows = dims.batch * dims.out_h * dims.out_w;
  std::int64_t panels = panels_per_group(dims);
  std::int64_t k = products_per_output(dims);
  if (rows == 0 || panels == 0) return {1, 0, 1, 0, 0};
  std::int64_t row_products = std::max<std::int64_t>(k * group_outputs(dims), 1);
  std::int64_t least_tiles = ceil_div(ceil_div(kMinUnitProducts, row_products), kTilePixels);
  std::int64_t wanted_tiles = ceil_div(ceil_div(rows, kWantedUnits), kTilePixels);
  blocks.row_block = std::min(max_rows, std::max(wanted_tiles, least_tiles) * kTilePixels);
  blocks.row_blocks = ceil_div(rows, blocks.row_block);
  std::int64_t splits = ceil_div(kWantedUnits, blocks.row_blocks * dims.groups);
  std::int64_t panel_products = std::max<std::int64_t>(std::min(rows, blocks.row_block) * k * kPanelChannels, 1);
  std::int64_t least_panels = ceil_div(kMinUnitProducts, panel_products);
  blocks.panel_block = std::min(panels, std::max(least_panels, ceil_div(panels, splits)));
  blocks.panel_blocks = ceil_div(panels, blocks.panel_block);
  blocks.units = blocks.row_blocks * dims.groups * blocks.panel_blocks;
  return blocks;
}

ConvBlocks split_tiles(const TiledConv& c) {
  if (c.rows == 0 || c.panels == 0) return {1, 0, 1, 0, 0};
  const std::int64_t tallest =
      std::max(kRowBytes / std::max<std::int64_t>(c.pitch, 1) / c.tile_rows, std::int64_t{1}) * c.tile_rows;
  const std::int64_t panel_tiles = ceil_div(c.panels, c.tile_panels), row_tiles = ceil_div(c.rows, c.tile_rows);
  const std::int64_t products = c.rows * std::max<std::int64_t>(c.k, 1) * c.panels * kPanelChannels;
  const std::int64_t wanted =
      std::clamp<std::int64_t>(products / kMinTiledProducts, 1, ceil_div(kWantedUnits, c.groups));
  std::int64_t row_blocks = ceil_div(c.rows, tallest), panel_blocks = 1;
  const bool weights_are_larger = c.panels * kPanelChannels > c.rows;
  if (weights_are_larger) panel_blocks = std::min(panel_tiles, ceil_div(wanted, row_blocks));
  row_blocks = std::max(row_blocks, std::min(row_tiles, ceil_div(wanted, panel_blocks)));
  if (!weights_are_larger) panel_blocks = std::min(panel_tiles, ceil_div(wanted, row_blocks));
  ConvBlocks blocks;
  std::int64_t block_tiles = ceil_div(row_tiles, row_blocks);
  if (row_blocks > 1) {
    block_tiles = evenly_shared(block_tiles, tallest / c.tile_rows, 1,
                                [&](std::int64_t block) { return ceil_div(ceil_div(row_tiles, block), 2) * block; });
  }
  blocks.row_block = block_tiles * c.tile_rows;
  blocks.row_blocks = ceil_div(c.rows, blocks.row_block);
  blocks.panel_block = c.tile_panels * ceil_div(panel_tiles, panel_blocks);
  blocks.panel_blocks = ceil_div(c.panels, blocks.panel_block);
  blocks.units = blocks.row_blocks * c.groups * blocks.panel_blocks;
  return blocks;
}

}  // namespace aoq::cpu
