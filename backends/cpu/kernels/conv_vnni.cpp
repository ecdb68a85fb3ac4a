#include "backends/cpu/kernels/conv_vnni.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kTileRows = kVnniTileRows;
// Rows this far apart fall into the same few sets of a first-level cache.
constexpr std::int64_t kAliasingBytes = 2048;

std::int64_t steps_of(const ConvDims& dims) {
  return ceil_div(products_per_output(dims), 4);
}
std::int64_t panel_bytes_of(const ConvDims& dims) {
  return 64 + steps_of(dims) * 64;
}

void choose_rows(ConvVnniPlan& plan) {
  const ConvDims& d = plan.dims;
  plan.reads_in_place = input_is_matrix(d) && d.groups == 1 && plan.x_type == DType::u8 && plan.k % 4 == 0 &&
                        d.in_c % kAliasingBytes != 0;
  plan.pitch = plan.reads_in_place ? d.in_c : round_up(plan.k, 4);
  if (plan.pitch % kAliasingBytes == 0) plan.pitch += 64;
}

void choose_blocks(ConvVnniPlan& plan) {
  const ConvBlocks blocks = split_tiles({.rows = plan.rows,
                                         .panels = plan.panels,
                                         .groups = plan.dims.groups,
                                         .k = plan.k,
                                         .pitch = plan.pitch,
                                         .tile_rows = kTileRows,
                                         .tile_panels = 2});
  plan.row_block = blocks.row_block;
  plan.row_blocks = blocks.row_blocks;
  plan.panel_block = blocks.panel_block;
  plan.panel_blocks = blocks.panel_blocks;
  plan.units = blocks.units;
}

}  // namespace

ConvVnniPlan plan_conv_vnni(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  ConvVnniPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.k = products_per_output(dims);
  AOQ_CHECK(plan.k <= kMaxExactProducts);
  plan.rows = dims.batch * dims.out_h * dims.out_w;
  plan.panels = panels_per_group(dims);
  plan.panel_bytes = panel_bytes_of(dims);
  choose_rows(plan);
  choose_blocks(plan);
  // Gathering writes whole vectors, hence the slack behind the last row.
  if (!plan.reads_in_place) plan.scratch_bytes = round_up(plan.row_block * plan.pitch + 64, 64);
  return plan;
}

std::int64_t packed_bytes_conv_vnni(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * panel_bytes_of(dims);
}

void pack_conv_vnni(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  const std::int64_t group_in = dims.in_c / dims.groups, taps = dims.kernel_h * dims.kernel_w;
  const std::int64_t steps = steps_of(dims);
  std::fill(packed.begin(), packed.end(), std::byte{0});
  std::vector<std::int8_t> row(static_cast<std::size_t>(4 * steps));  // of one channel, in the order of K
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel, weights += group_in * taps) {
    const std::int64_t group = channel / group_outputs(dims), local = channel % group_outputs(dims);
    std::byte* panel = packed.data() + (group * panels_per_group(dims) + local / kPanelChannels) * panel_bytes_of(dims);
    std::int32_t sum = 0;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      std::int8_t* to = row.data() + tap * group_in;
      for (std::int64_t c = 0; c < group_in; ++c) {
        to[c] = weights[c * taps + tap];
        sum += to[c];
      }
    }
    const std::int64_t column = local % kPanelChannels;
    std::memcpy(panel + 4 * column, &sum, 4);
    for (std::int64_t step = 0; step < steps; ++step) {
      std::memcpy(panel + 64 * (1 + step) + 4 * column, row.data() + 4 * step, 4);
    }
  }
}

std::int64_t index_conv_vnni(const ConvDims& dims, std::int64_t channel, std::int64_t k) {
  const std::int64_t group = channel / group_outputs(dims), local = channel % group_outputs(dims);
  const std::int64_t panel = group * panels_per_group(dims) + local / kPanelChannels;
  return panel * panel_bytes_of(dims) + 64 * (1 + k / 4) + local % kPanelChannels * 4 + k % 4;
}

void run_conv_vnni(const ConvVnniPlan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  run_conv_avx512_vnni(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
