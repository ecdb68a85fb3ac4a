#include "backends/cpu/kernels/conv_winograd.h"

#include <algorithm>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPlaces = 36;
// Transformed patches of a unit: with the sums of a panel they stay in a second-level cache of 512 KiB or more, while
// the weights stream by.
constexpr std::int64_t kBlockBytes = 288 * 1024;
constexpr std::int64_t kLeastTileBlock = 8;
constexpr std::int64_t kMostTileBlock = 28;
constexpr std::int64_t kWantedUnits = 16;

constexpr std::int32_t kG[6][3] = {{6, 0, 0}, {-1, -1, -1}, {-1, 1, -1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 6}};

// G w G^T.
void transform_kernel(const std::int8_t* w, std::int32_t (&u)[6][6]) {
  std::int32_t rows[6][3] = {};
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 3; ++k) rows[i][j] += kG[i][k] * w[3 * k + j];
    }
  }
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < 6; ++j) {
      u[i][j] = 0;
      for (int k = 0; k < 3; ++k) u[i][j] += rows[i][k] * kG[j][k];
    }
  }
}

// 6 g of G g: of the left inverse, what needs the points 0, 1, -1 and infinity only.
void recover_three(const std::int32_t (&u)[6], std::int32_t (&six_g)[3]) {
  six_g[0] = u[0];
  six_g[1] = 3 * (u[2] - u[1]);
  six_g[2] = u[5];
}

// False where `u` is the transform of no i8 kernel; w is then something.
bool recover_kernel(const std::int32_t (&u)[6][6], std::int8_t* w) {
  std::int32_t rows[6][3];
  for (int i = 0; i < 6; ++i) recover_three(u[i], rows[i]);
  for (int j = 0; j < 3; ++j) {
    const std::int32_t column[6] = {rows[0][j], rows[1][j], rows[2][j], rows[3][j], rows[4][j], rows[5][j]};
    std::int32_t taps[3];
    recover_three(column, taps);
    for (int i = 0; i < 3; ++i) w[3 * i + j] = static_cast<std::int8_t>(taps[i] / 36);
  }
  std::int32_t again[6][6];
  transform_kernel(w, again);
  return std::equal(&u[0][0], &u[0][0] + kPlaces, &again[0][0]);
}

// Of element (channel, input channel) at place 0, in s16; places are in_c * 16 apart.
std::int64_t index_of(const ConvDims& d, std::int64_t channel, std::int64_t c) {
  const std::int64_t panel = channel / kPanelChannels, column = channel % kPanelChannels;
  return panel * kPlaces * d.in_c * kPanelChannels + c / 2 * 2 * kPanelChannels + 2 * column + c % 2;
}

std::int64_t tiles_of(const ConvDims& d) {
  return d.batch * ceil_div(d.out_h, 4) * ceil_div(d.out_w, 4);
}

void choose_blocks(ConvWinogradPlan& plan) {
  const std::int64_t channels = round_up(plan.dims.in_c, 32);
  const std::int64_t most =
      std::clamp<std::int64_t>(kBlockBytes / (kPlaces * 2 * channels), kLeastTileBlock, kMostTileBlock);
  plan.tile_block = round_up(ceil_div(plan.tiles, ceil_div(plan.tiles, most)), 4);
  plan.tile_blocks = ceil_div(plan.tiles, plan.tile_block);
  plan.panel_blocks = std::min(plan.panels, ceil_div(kWantedUnits, plan.tile_blocks));
  plan.panel_block = ceil_div(plan.panels, plan.panel_blocks);
  plan.panel_blocks = ceil_div(plan.panels, plan.panel_block);
  plan.units = plan.tile_blocks * plan.panel_blocks;
  // A line more for each place, so that not all of them fall into the same few sets of a first-level cache.
  plan.patch_elements = kPlaces * (plan.tile_block * channels + 32);
  plan.sum_elements = plan.parts * kPlaces * plan.tile_block * kPanelChannels;
  plan.scratch_bytes = 2 * plan.patch_elements + 4 * plan.sum_elements + round_up(channels, 64);
}

}  // namespace

bool takes_winograd(const ConvDims& d) {
  return d.kernel_h == 3 && d.kernel_w == 3 && d.stride_h == 1 && d.stride_w == 1 && d.dilation_h == 1 &&
         d.dilation_w == 1 && d.groups == 1 && d.in_c % 16 == 0;
}

bool is_winograd_worth(const ConvDims& d, Isa isa) {
  const std::int64_t least_tiles = isa == Isa::avx512_vnni ? 16 : 4;
  return takes_winograd(d) && d.in_c >= 32 && d.out_c >= 32 && tiles_of(d) >= least_tiles;
}

ConvWinogradPlan plan_conv_winograd(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue, Isa isa) {
  ConvWinogradPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.isa = isa;
  plan.tiles_h = ceil_div(dims.out_h, 4);
  plan.tiles_w = ceil_div(dims.out_w, 4);
  plan.tiles = tiles_of(dims);
  plan.panels = panels_per_group(dims);
  plan.depth = round_up(ceil_div(dims.in_c, ceil_div(dims.in_c, kWinogradDepth)), 32);
  plan.parts = ceil_div(dims.in_c, plan.depth);
  if (plan.tiles > 0) choose_blocks(plan);
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
      std::int32_t u[6][6];
      transform_kernel(weights + (channel * dims.in_c + c) * 9, u);
      std::int16_t* to = out + index_of(dims, channel, c);
      for (int place = 0; place < kPlaces; ++place) {
        to[place * dims.in_c * kPanelChannels] = static_cast<std::int16_t>(u[place / 6][place % 6]);
      }
    }
  }
}

bool unpack_winograd(const ConvDims& dims, const std::byte* packed, std::int8_t* weights) {
  const auto* in = reinterpret_cast<const std::int16_t*>(packed);
  bool is_sound = true;
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    for (std::int64_t c = 0; c < dims.in_c; ++c) {
      const std::int16_t* from = in + index_of(dims, channel, c);
      std::int32_t u[6][6];
      for (int place = 0; place < kPlaces; ++place) {
        u[place / 6][place % 6] = from[place * dims.in_c * kPanelChannels];
      }
      is_sound = recover_kernel(u, weights + (channel * dims.in_c + c) * 9) && is_sound;
    }
  }
  return is_sound;
}

void run_conv_winograd(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                       std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa == Isa::avx512_vnni) return run_conv_winograd_avx512_vnni(plan, args, unit_begin, unit_end, scratch);
  run_conv_winograd_avx2(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
