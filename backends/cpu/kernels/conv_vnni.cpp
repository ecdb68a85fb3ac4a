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
// Gathered rows of a unit: with the panels that stream by they stay in a second-level cache of 512 KiB or more.
constexpr std::int64_t kBlockBytes = 256 * 1024;
// Below this much work a unit costs more to hand to a thread than it saves.
constexpr std::int64_t kMinUnitProducts = 1024 * 1024;
constexpr std::int64_t kWantedUnits = 16;
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

// Blocks are as tall as the cache allows. Work that is too little for all workers is split further: along the panels
// where the weights are the larger operand, along the rows first where x is.
void choose_blocks(ConvVnniPlan& plan) {
  const std::int64_t groups = plan.dims.groups;
  plan.row_block = plan.panel_block = plan.row_blocks = plan.panel_blocks = 1;
  if (plan.rows == 0 || plan.panels == 0) return;
  const std::int64_t tallest = std::max(kBlockBytes / plan.pitch / kTileRows, std::int64_t{1}) * kTileRows;
  const std::int64_t pairs = ceil_div(plan.panels, 2), tiles = ceil_div(plan.rows, kTileRows);
  const std::int64_t products = plan.rows * std::max<std::int64_t>(plan.k, 1) * plan.panels * kPanelChannels;
  const std::int64_t wanted = std::clamp<std::int64_t>(products / kMinUnitProducts, 1, ceil_div(kWantedUnits, groups));
  std::int64_t row_blocks = ceil_div(plan.rows, tallest), panel_blocks = 1;
  const bool weights_are_larger = plan.panels * kPanelChannels > plan.rows;
  if (weights_are_larger) panel_blocks = std::min(pairs, ceil_div(wanted, row_blocks));
  row_blocks = std::max(row_blocks, std::min(tiles, ceil_div(wanted, panel_blocks)));
  if (!weights_are_larger) panel_blocks = std::min(pairs, ceil_div(wanted, row_blocks));
  plan.row_block = round_up(ceil_div(plan.rows, row_blocks), kTileRows);
  plan.row_blocks = ceil_div(plan.rows, plan.row_block);
  plan.panel_block = 2 * ceil_div(pairs, panel_blocks);
  plan.panel_blocks = ceil_div(plan.panels, plan.panel_block);
  plan.units = plan.row_blocks * groups * plan.panel_blocks;
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
