#include "backends/cpu/kernels/conv_winograd.h"

#include <algorithm>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPlaces = 16;
constexpr std::int64_t kMaxChannels = 1820;
// Transformed patches of a unit: half of a 512 KiB second-level cache, the weights of a panel stream through the rest.
constexpr std::int64_t kBlockBytes = 256 * 1024;
constexpr std::int64_t kMaxTileBlock = 48;
constexpr std::int64_t kWantedUnits = 16;
constexpr std::int64_t kLeastPixels = 14 * 14;

// (2G) g (2G)^T for a row g of three.
void transform_three(const std::int32_t (&g)[3], std::int32_t (&out)[4]) {
  out[0] = 2 * g[0];
  out[1] = g[0] + g[1] + g[2];
  out[2] = g[0] - g[1] + g[2];
  out[3] = 2 * g[2];
}

void transform_kernel(const std::int8_t* w, std::int32_t (&u)[4][4]) {
  std::int32_t rows[3][4];
  for (int i = 0; i < 3; ++i) {
    const std::int32_t g[3] = {w[3 * i], w[3 * i + 1], w[3 * i + 2]};
    transform_three(g, rows[i]);
  }
  for (int j = 0; j < 4; ++j) {
    const std::int32_t g[3] = {rows[0][j], rows[1][j], rows[2][j]};
    std::int32_t column[4];
    transform_three(g, column);
    for (int i = 0; i < 4; ++i) u[i][j] = column[i];
  }
}

void recover_kernel(const std::int32_t (&u)[4][4], std::int8_t* w) {
  const std::int32_t four[3][3] = {{u[0][0], u[0][1] - u[0][2], u[0][3]},
                                   {u[1][0] - u[2][0], u[1][1] - u[1][2] - u[2][1] + u[2][2], u[1][3] - u[2][3]},
                                   {u[3][0], u[3][1] - u[3][2], u[3][3]}};
  for (int i = 0; i < 9; ++i) w[i] = static_cast<std::int8_t>(four[i / 3][i % 3] / 4);
}

// Of element (channel, input channel) at place 0, in s16; places are in_c * 16 apart.
std::int64_t index_of(const ConvDims& d, std::int64_t channel, std::int64_t c) {
  const std::int64_t panel = channel / kPanelChannels, column = channel % kPanelChannels;
  return panel * kPlaces * d.in_c * kPanelChannels + c / 2 * 2 * kPanelChannels + 2 * column + c % 2;
}

}  // namespace

bool takes_winograd(const ConvDims& d) {
  return d.kernel_h == 3 && d.kernel_w == 3 && d.stride_h == 1 && d.stride_w == 1 && d.dilation_h == 1 &&
         d.dilation_w == 1 && d.groups == 1 && d.in_c % 16 == 0 && d.in_c <= kMaxChannels;
}

bool is_winograd_worth(const ConvDims& d) {
  return takes_winograd(d) && d.in_c >= 32 && d.out_c >= 32 && d.batch * d.out_h * d.out_w >= kLeastPixels;
}

ConvWinogradPlan plan_conv_winograd(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  ConvWinogradPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.tiles_h = ceil_div(dims.out_h, 2);
  plan.tiles_w = ceil_div(dims.out_w, 2);
  plan.tiles = dims.batch * plan.tiles_h * plan.tiles_w;
  plan.panels = panels_per_group(dims);
  if (plan.tiles == 0) return plan;
  const std::int64_t most = std::clamp<std::int64_t>(kBlockBytes / (kPlaces * 2 * dims.in_c), 6, kMaxTileBlock);
  plan.tile_block = ceil_div(plan.tiles, ceil_div(plan.tiles, most));
  plan.tile_blocks = ceil_div(plan.tiles, plan.tile_block);
  plan.panel_blocks = std::min(plan.panels, ceil_div(kWantedUnits, plan.tile_blocks));
  plan.panel_block = ceil_div(plan.panels, plan.panel_blocks);
  plan.panel_blocks = ceil_div(plan.panels, plan.panel_block);
  plan.units = plan.tile_blocks * plan.panel_blocks;
  plan.scratch_bytes = kPlaces * plan.tile_block * (2 * dims.in_c + 4 * kPanelChannels) + round_up(dims.in_c, 64);
  return plan;
}

std::int64_t packed_bytes_winograd(const ConvDims& dims) {
  return panels_per_group(dims) * kPlaces * dims.in_c * kPanelChannels * 2;
}

void pack_winograd(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  auto* out = reinterpret_cast<std::int16_t*>(packed.data());
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    for (std::int64_t c = 0; c < dims.in_c; ++c) {
      std::int32_t u[4][4];
      transform_kernel(weights + (channel * dims.in_c + c) * 9, u);
      std::int16_t* to = out + index_of(dims, channel, c);
      for (int place = 0; place < kPlaces; ++place) {
        to[place * dims.in_c * kPanelChannels] = static_cast<std::int16_t>(u[place / 4][place % 4]);
      }
    }
  }
}

void unpack_winograd(const ConvDims& dims, const std::byte* packed, std::int8_t* weights) {
  const auto* in = reinterpret_cast<const std::int16_t*>(packed);
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    for (std::int64_t c = 0; c < dims.in_c; ++c) {
      const std::int16_t* from = in + index_of(dims, channel, c);
      std::int32_t u[4][4];
      for (int place = 0; place < kPlaces; ++place) {
        u[place / 4][place % 4] = from[place * dims.in_c * kPanelChannels];
      }
      recover_kernel(u, weights + (channel * dims.in_c + c) * 9);
    }
  }
}

void run_conv_winograd(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                       std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  run_conv_winograd_avx2(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
