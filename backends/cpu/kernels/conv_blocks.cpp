#include "backends/cpu/kernels/conv_blocks.h"

#include <algorithm>

namespace aoq::cpu {
namespace {

// Below this much work a unit costs more to hand to a thread than it saves.
constexpr std::int64_t kMinUnitProducts = 256 * 1024;
constexpr std::int64_t kWantedUnits = 16;

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

}  // namespace aoq::cpu
