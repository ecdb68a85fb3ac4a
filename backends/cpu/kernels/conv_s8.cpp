#include "backends/cpu/kernels/conv_s8.h"

#include <algorithm>
#include <cstddef>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

// Part of a 512 KB second-level cache: the rest is for the panel that streams through it.
constexpr std::int64_t kBlockBytes = 160 * 1024;
constexpr std::int64_t kMaxRowBlock = 96;

std::int64_t largest_row_block(std::int64_t k) {
  std::int64_t fitting = kBlockBytes / (2 * (k + 1)) / kTilePixels * kTilePixels;
  return std::clamp(fitting, kTilePixels, kMaxRowBlock);
}

// The definition of one accumulator, straight from the image.
std::int32_t accumulate(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t row, std::int64_t channel) {
  const ConvDims& d = plan.dims;
  std::int64_t group_in = d.in_c / d.groups;
  std::int64_t group = channel / group_outputs(d);
  std::int64_t local = channel % group_outputs(d);
  std::int64_t k_pairs = ceil_div(plan.k, 2);
  const auto* panel = reinterpret_cast<const std::int8_t*>(args.weights) +
                      (group * plan.panels + local / kPanelChannels) * k_pairs * 2 * kPanelChannels +
                      local % kPanelChannels * 2;
  std::int64_t ox = row % d.out_w;
  std::int64_t oy = row / d.out_w % d.out_h;
  std::int64_t image = row / d.out_w / d.out_h;
  std::int32_t acc = 0;
  std::int64_t k = 0;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh) {
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw) {
      std::int64_t iy = oy * d.stride_h - d.pad_top + kh * d.dilation_h;
      std::int64_t ix = ox * d.stride_w - d.pad_left + kw * d.dilation_w;
      bool inside = iy >= 0 && iy < d.in_h && ix >= 0 && ix < d.in_w;
      for (std::int64_t c = 0; c < group_in; ++c, ++k) {
        if (!inside) continue;
        std::int64_t at = ((image * d.in_h + iy) * d.in_w + ix) * d.in_c + group * group_in + c;
        std::int32_t x = plan.x_type == DType::i8 ? static_cast<const std::int8_t*>(args.x)[at]
                                                  : static_cast<const std::uint8_t*>(args.x)[at];
        acc += (x - args.x_zero_point) * panel[k / 2 * 2 * kPanelChannels + k % 2];
      }
    }
  }
  return acc;
}

void run_scalar(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end) {
  const ConvDims& d = plan.dims;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit u = unit_at(plan, unit);
    const std::int64_t group = u.group;
    std::int64_t local_end = std::min(u.panel_end * kPanelChannels, group_outputs(d));
    for (std::int64_t row = u.row_begin; row < u.row_end; ++row) {
      for (std::int64_t local = u.panel_begin * kPanelChannels; local < local_end; ++local) {
        std::int64_t channel = group * group_outputs(d) + local;
        std::int32_t acc = accumulate(plan, args, row, channel);
        store_epilogue_scalar(plan.epilogue, args.epilogue, group * plan.panels * kPanelChannels + local, acc,
                              row * d.out_c + channel);
      }
    }
  }
}

}  // namespace

ConvS8Plan plan_conv_s8(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue, Isa isa) {
  ConvS8Plan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.isa = isa;
  plan.k = products_per_output(dims);
  AOQ_CHECK(plan.k <= kMaxExactProducts);
  plan.rows = dims.batch * dims.out_h * dims.out_w;
  plan.panels = panels_per_group(dims);
  plan.x_is_matrix = input_is_matrix(dims);
  ConvBlocks blocks = split_conv(dims, largest_row_block(plan.k));
  plan.row_block = blocks.row_block;
  plan.row_blocks = blocks.row_blocks;
  plan.panel_block = blocks.panel_block;
  plan.panel_blocks = blocks.panel_blocks;
  plan.units = blocks.units;
  // The widening writes whole vectors, hence the slack behind the last row.
  plan.scratch_bytes = isa == Isa::reference ? 0 : ceil_div(plan.row_block * 2 * (plan.k + 1) + 64, 64) * 64;
  return plan;
}

std::int64_t packed_bytes_conv_s8(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * ceil_div(products_per_output(dims), 2) * 2 * kPanelChannels;
}

void pack_conv_s8(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::int64_t group_in = dims.in_c / dims.groups;
  std::int64_t taps = dims.kernel_h * dims.kernel_w;
  std::int64_t panel_bytes = ceil_div(products_per_output(dims), 2) * 2 * kPanelChannels;
  std::fill(packed.begin(), packed.end(), std::byte{0});
  auto* out = reinterpret_cast<std::int8_t*>(packed.data());
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    std::int64_t group = channel / group_outputs(dims);
    std::int64_t local = channel % group_outputs(dims);
    std::int8_t* panel =
        out + (group * panels_per_group(dims) + local / kPanelChannels) * panel_bytes + local % kPanelChannels * 2;
    for (std::int64_t c = 0; c < group_in; ++c) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        std::int64_t k = tap * group_in + c;
        panel[k / 2 * 2 * kPanelChannels + k % 2] = weights[(channel * group_in + c) * taps + tap];
      }
    }
  }
}

std::int64_t padded_channels(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * kPanelChannels;
}

void spread_channels(const ConvDims& dims, std::span<const float> values, std::span<float> padded) {
  std::fill(padded.begin(), padded.end(), 0.0f);
  std::int64_t stride = panels_per_group(dims) * kPanelChannels;
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    std::int64_t at = channel / group_outputs(dims) * stride + channel % group_outputs(dims);
    padded[static_cast<std::size_t>(at)] = values[static_cast<std::size_t>(channel)];
  }
}

void run_conv_s8(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                 std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx2) return run_conv_s8_avx2(plan, args, unit_begin, unit_end, scratch);
#endif
  run_scalar(plan, args, unit_begin, unit_end);
}

}  // namespace aoq::cpu
