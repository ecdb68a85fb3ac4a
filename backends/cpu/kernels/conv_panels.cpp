#include "backends/cpu/kernels/conv_panels.h"

#include "backends/cpu/kernels/conv_blocks.h"
#include "ir/status.h"

namespace aoq::cpu {

ConvPanelsPlan plan_conv_panels(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue,
                                std::int64_t panel_bytes, std::int64_t tile_rows) {
  ConvPanelsPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.k = products_per_output(dims);
  AOQ_CHECK(plan.k <= kMaxExactProducts);
  plan.steps = ceil_div(plan.k, 4);
  plan.rows = dims.batch * dims.out_h * dims.out_w;
  plan.panels = panels_per_group(dims);
  plan.panel_bytes = panel_bytes;
  plan.reads_in_place = input_is_matrix(dims) && dims.groups == 1 && x_type == DType::u8 && plan.k % 4 == 0;
  plan.pitch = plan.reads_in_place ? plan.k : 4 * plan.steps;
  const ConvBlocks blocks = split_tiles({.rows = plan.rows,
                                         .panels = plan.panels,
                                         .groups = dims.groups,
                                         .k = plan.k,
                                         .pitch = plan.pitch,
                                         .tile_rows = tile_rows,
                                         .tile_panels = 1});
  plan.row_block = blocks.row_block;
  plan.row_blocks = blocks.row_blocks;
  plan.panel_block = blocks.panel_block;
  plan.panel_blocks = blocks.panel_blocks;
  plan.units = blocks.units;
  // Gathering writes whole vectors, hence the slack behind the last row.
  if (!plan.reads_in_place) plan.scratch_bytes = round_up(plan.row_block * plan.pitch + 32, 64);
  return plan;
}

}  // namespace aoq::cpu
