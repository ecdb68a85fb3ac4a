#include "backends/cpu/kernels/conv_f32.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kMaxRowBlock = 96;
constexpr std::int64_t kFarRowBlock = 192;
constexpr std::int64_t kNearBytes = 256 * 1024;  // of one group's weights: a part of a second-level cache
constexpr std::int64_t kFarUnits = 16;
constexpr std::int64_t kPanelsPerStep = 4;  // that the widest tile takes
constexpr std::int64_t kCopyBytes = 192 * 1024;
constexpr std::int64_t kFewChannels = 8;

// The definition of one accumulator, straight from the image.
float accumulate(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t row, std::int64_t channel) {
  const ConvDims& d = plan.dims;
  std::int64_t group_in = d.in_c / d.groups;
  std::int64_t group = channel / group_outputs(d);
  std::int64_t local = channel % group_outputs(d);
  const float* w = reinterpret_cast<const float*>(args.weights) +
                   (group * plan.panels + local / kPanelChannels) * plan.k * kPanelChannels + local % kPanelChannels;
  std::int64_t ox = row % d.out_w;
  std::int64_t oy = row / d.out_w % d.out_h;
  std::int64_t image = row / d.out_w / d.out_h;
  float acc = 0.0f;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh) {
    std::int64_t iy = oy * d.stride_h - d.pad_top + kh * d.dilation_h;
    if (iy < 0 || iy >= d.in_h) {
      w += d.kernel_w * group_in * kPanelChannels;
      continue;
    }
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw) {
      std::int64_t ix = ox * d.stride_w - d.pad_left + kw * d.dilation_w;
      bool inside = ix >= 0 && ix < d.in_w;
      const float* x = args.x + ((image * d.in_h + iy) * d.in_w + ix) * d.in_c + group * group_in;
      for (std::int64_t c = 0; c < group_in; ++c, w += kPanelChannels) acc = std::fma(inside ? x[c] : 0.0f, *w, acc);
    }
  }
  return acc;
}

void run_scalar(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end) {
  const ConvDims& d = plan.dims;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit u = unit_at(plan, unit);
    const std::int64_t group = u.group;
    std::int64_t local_end = std::min(u.panel_end * kPanelChannels, group_outputs(d));
    for (std::int64_t row = u.row_begin; row < u.row_end; ++row) {
      for (std::int64_t local = u.panel_begin * kPanelChannels; local < local_end; ++local) {
        std::int64_t channel = group * group_outputs(d) + local;
        float y = accumulate(plan, args, row, channel);
        if (plan.epilogue.has_bias) y = y + args.bias[group * plan.panels * kPanelChannels + local];
        if (plan.epilogue.has_residual) y = y + args.residual[row * d.out_c + channel];
        args.out[row * d.out_c + channel] = apply_activation(plan.epilogue.activation, y);
      }
    }
  }
}

// A stretch of rows that read the same kernel rows is cut by itself, and ends with an output row.
std::int64_t most_tiles(const ConvF32Plan& plan) {
  std::int64_t stretches = plan.x_is_matrix ? 1 : plan.row_block / std::max<std::int64_t>(plan.dims.out_w, 1) + 2;
  return plan.row_block / kTilePixels + stretches;
}

std::int64_t scratch_for(const ConvF32Plan& plan) {
  std::int64_t accumulators = round_up(plan.row_block * plan.acc_columns * 4, 64);
  std::int64_t tiles = round_up(plan.tiles * kRowTileBytes, 64);
  std::int64_t pointers = round_up(plan.tiles * plan.runs * kTilePixels * 8, 64);
  std::int64_t zeros = round_up(plan.k / plan.runs * 4, 64);
  std::int64_t image_rows = round_up(plan.dims.kernel_h * 8, 64);
  std::int64_t copies = plan.joins_taps ? round_up(plan.row_block * plan.k * 4, 64) : 0;
  return accumulators + tiles + pointers + zeros + image_rows + copies;
}

// Weights that do not stay near pass once per row block. Then the blocks have many rows, and it is panels, four at a
// time, that make enough units.
ConvBlocks split_far(const ConvDims& dims, std::int64_t max_rows) {
  std::int64_t rows = dims.batch * dims.out_h * dims.out_w;
  std::int64_t panels = panels_per_group(dims);
  ConvBlocks blocks = {};
  blocks.row_blocks = ceil_div(rows, max_rows);
  blocks.row_block = round_up(ceil_div(rows, blocks.row_blocks), kTilePixels);
  blocks.row_blocks = ceil_div(rows, blocks.row_block);
  std::int64_t splits = ceil_div(kFarUnits, blocks.row_blocks * dims.groups);
  blocks.panel_block = round_up(ceil_div(panels, splits), kPanelsPerStep);
  blocks.panel_blocks = ceil_div(panels, blocks.panel_block);
  blocks.units = blocks.row_blocks * dims.groups * blocks.panel_blocks;
  return blocks;
}

ConvBlocks split_f32(const ConvF32Plan& plan) {
  if (plan.joins_taps) {
    std::int64_t pixels = kCopyBytes / (4 * std::max<std::int64_t>(plan.k, 1));
    return split_conv(plan.dims, std::clamp(pixels / kTilePixels * kTilePixels, kTilePixels, kMaxRowBlock));
  }
  if (plan.rows > 0 && plan.panels * plan.k * kPanelChannels * 4 > kNearBytes)
    return split_far(plan.dims, kFarRowBlock);
  return split_conv(plan.dims, kMaxRowBlock);
}

}  // namespace

ConvF32Plan plan_conv_f32(const ConvDims& dims, const EpilogueF32& epilogue, Isa isa) {
  ConvF32Plan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.isa = isa;
  plan.k = products_per_output(dims);
  plan.rows = dims.batch * dims.out_h * dims.out_w;
  plan.panels = panels_per_group(dims);
  if (isa >= Isa::avx512_vnni) plan.acc_columns = kPanelsPerStep * kPanelChannels;
  plan.x_is_matrix = input_is_matrix(dims);
  plan.joins_taps = !plan.x_is_matrix && dims.in_c / dims.groups < kFewChannels;
  if (!plan.x_is_matrix) plan.runs = plan.joins_taps ? dims.kernel_h : dims.kernel_h * dims.kernel_w;
  ConvBlocks blocks = split_f32(plan);
  plan.row_block = blocks.row_block;
  plan.row_blocks = blocks.row_blocks;
  plan.panel_block = blocks.panel_block;
  plan.panel_blocks = blocks.panel_blocks;
  plan.units = blocks.units;
  plan.tiles = most_tiles(plan);
  plan.scratch_bytes = isa == Isa::reference ? 0 : scratch_for(plan);
  return plan;
}

std::int64_t packed_bytes_conv_f32(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * products_per_output(dims) * kPanelChannels * 4;
}

void pack_conv_f32(const ConvDims& dims, const float* weights, std::span<std::byte> packed) {
  std::int64_t group_in = dims.in_c / dims.groups;
  std::int64_t taps = dims.kernel_h * dims.kernel_w;
  std::int64_t panel_floats = products_per_output(dims) * kPanelChannels;
  std::fill(packed.begin(), packed.end(), std::byte{0});
  auto* out = reinterpret_cast<float*>(packed.data());
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    std::int64_t group = channel / group_outputs(dims);
    std::int64_t local = channel % group_outputs(dims);
    std::int64_t index = group * panels_per_group(dims) + local / kPanelChannels;
    float* panel = out + index * panel_floats + local % kPanelChannels;
    for (std::int64_t c = 0; c < group_in; ++c) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        panel[(tap * group_in + c) * kPanelChannels] = weights[(channel * group_in + c) * taps + tap];
      }
    }
  }
}

void run_conv_f32(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                  std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_conv_f32_avx512(plan, args, unit_begin, unit_end, scratch);
  if (plan.isa >= Isa::avx2) return run_conv_f32_avx2(plan, args, unit_begin, unit_end, scratch);
#endif
  run_scalar(plan, args, unit_begin, unit_end);
}

}  // namespace aoq::cpu
