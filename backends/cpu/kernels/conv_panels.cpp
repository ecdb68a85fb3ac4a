#include "backends/cpu/kernels/conv_panels.h"

#include "backends/cpu/kernels/conv_blocks.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

// Rows this far apart fall into the same few sets of a first-level cache.
constexpr std::int64_t kAliasingBytes = 2048;

void choose_rows(ConvPanelsPlan& plan, const PanelShape& tile) {
  const ConvDims& d = plan.dims;
  plan.reads_in_place = input_is_matrix(d) && d.groups == 1 && plan.x_type == DType::u8 && plan.k % 4 == 0 &&
                        d.in_c >= tile.least_pitch && !(tile.avoids_aliasing && d.in_c % kAliasingBytes == 0);
  plan.pitch = plan.reads_in_place ? d.in_c : 4 * plan.steps;
  if (tile.avoids_aliasing && plan.pitch % kAliasingBytes == 0) plan.pitch += 64;
}

}  // namespace

ConvPanelsPlan plan_conv_panels(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue,
                                const PanelShape& tile) {
  ConvPanelsPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.k = products_per_output(dims);
  AOQ_CHECK(plan.k <= kMaxExactProducts);
  plan.steps = ceil_div(plan.k, 4);
  plan.rows = dims.batch * dims.out_h * dims.out_w;
  plan.panels = panels_per_group(dims);
  plan.panel_bytes = tile.panel_bytes;
  choose_rows(plan, tile);
  const ConvBlocks blocks = split_tiles({.rows = plan.rows,
                                         .panels = plan.panels,
                                         .groups = dims.groups,
                                         .k = plan.k,
                                         .pitch = plan.pitch,
                                         .tile_rows = tile.rows,
                                         .tile_panels = tile.panels});
  plan.row_block = blocks.row_block;
  plan.row_blocks = blocks.row_blocks;
  plan.panel_block = blocks.panel_block;
  plan.panel_blocks = blocks.panel_blocks;
  plan.units = blocks.units;
  // Gathering writes whole vectors, hence the slack behind the last row.
  if (!plan.reads_in_place) plan.tile_offset = round_up(plan.row_block * plan.pitch + 64, 64);
  plan.scratch_bytes = plan.tile_offset + round_up(tile.tile_bytes, 64);
  return plan;
}

}  // namespace aoq::cpu
