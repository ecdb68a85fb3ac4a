#include "backends/cpu/kernels/conv_winograd.h"

#include <algorithm>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPlaces = 36;
// V of a unit. With U of a panel it stays in a second-level cache of 1 MiB, and mostly in one of half the size.
constexpr std::int64_t kBlockBytes = 480 * 1024;
constexpr std::int64_t kLeastTileBlock = 16;
constexpr std::int64_t kMostTileBlock = 128;
constexpr std::int64_t kMostSumTiles = 24;
constexpr std::int64_t kMostChannels = 224;  // of a part
static_assert(9 * 128 * 128 * kMostChannels < 1 << 25);
// Blocks of fewer tiles than this are not made to have work for more threads.
constexpr std::int64_t kLeastSharedTiles = 24;
constexpr double kMargin = 0.95;

std::int64_t tiles_of(const ConvDims& d) {
  return d.batch * ceil_div(d.out_h, 4) * ceil_div(d.out_w, 4);
}

// Pieces of nearly the same size, a multiple of 4, as few as have at most `most`.
std::int64_t even_pieces(std::int64_t tiles, std::int64_t most) {
  return round_up(ceil_div(tiles, ceil_div(tiles, most)), 4);
}

// Vectors of channels in V, of 32 or 16 each.
std::int64_t strip_channels(Isa isa) {
  return isa == Isa::avx512_vnni ? 32 : 16;
}
std::int64_t strips_of(const ConvDims& d, Isa isa) {
  return 2 * ceil_div(d.in_c, 2 * strip_channels(isa));
}

// For one thread; more may take smaller ones.
std::int64_t tile_block_of(const ConvDims& d) {
  const std::int64_t tile_bytes = kPlaces * 2 * round_up(d.in_c, 64);
  return even_pieces(tiles_of(d), std::clamp(kBlockBytes / tile_bytes, kLeastTileBlock, kMostTileBlock));
}

// What a class takes, in cycles of a Zen 4 core: estimates within 15 % of `kernel_bench 3x3` for 32 to 512 channels and
// 7x7 to 56x56 pixels.
struct Cycles {
  double word, pixel;            // of the class's other kernel: four codes of K of a pixel and panel; the pixel's end
  double product, tile;          // two channels of a place, tile and panel; the tile's end
  double patch, weight_channel;  // a vector of V; a channel of a panel's U
};
constexpr Cycles kAvx512 = {1.03, 12, 1.06, 225, 130, 50};
constexpr Cycles kAvx2 = {2.27, 27, 1.3, 450, 100, 82};

double direct_cycles(const ConvDims& d, const Cycles& cycles) {
  const auto ends = static_cast<double>(d.batch * d.out_h * d.out_w * panels_per_group(d));
  return ends * (static_cast<double>(9 * d.in_c) / 4 * cycles.word + cycles.pixel);
}

// Fewer tiles than fill a group of four take longer each.
double winograd_cycles(const ConvDims& d, Isa isa, const Cycles& cycles) {
  const std::int64_t tiles = tiles_of(d), panels = panels_per_group(d);
  const auto ends = static_cast<double>(panels * (tiles % 4 == 0 ? tiles : tiles + 1));
  const auto patches = static_cast<double>(tiles * strips_of(d, isa));
  const auto weights = static_cast<double>(ceil_div(tiles, tile_block_of(d)) * panels * d.in_c);
  return ends * (static_cast<double>(kPlaces * d.in_c) / 2 * cycles.product + cycles.tile) + patches * cycles.patch +
         weights * cycles.weight_channel;
}

void choose_parts(ConvWinogradPlan& plan) {
  const std::int64_t strips = strips_of(plan.dims, plan.isa);
  plan.part_strips = ceil_div(strips, ceil_div(strips, kMostChannels / strip_channels(plan.isa)));
  plan.parts = ceil_div(strips, plan.part_strips);
}

// Several panels share V, and several blocks of tiles U: both are transformed again by each thread that needs them.
void choose_blocks(ConvWinogradPlan& plan, std::int64_t workers) {
  const std::int64_t channels = round_up(plan.dims.in_c, 64);
  plan.tile_block = tile_block_of(plan.dims);
  if (plan.panels * ceil_div(plan.tiles, plan.tile_block) < 2 * workers) {
    const std::int64_t wanted = ceil_div(2 * workers, plan.panels);
    plan.tile_block =
        std::min(plan.tile_block, std::max(even_pieces(plan.tiles, ceil_div(plan.tiles, wanted)), kLeastSharedTiles));
  }
  plan.tile_blocks = ceil_div(plan.tiles, plan.tile_block);
  plan.sum_tiles = even_pieces(plan.tile_block, kMostSumTiles);
  plan.panel_blocks = std::min(plan.panels, ceil_div(8 * workers, plan.tile_blocks));
  plan.panel_block = ceil_div(plan.panels, plan.panel_blocks);
  plan.panel_blocks = ceil_div(plan.panels, plan.panel_block);
  plan.units = plan.tile_blocks * plan.panel_blocks;
  // A line more for each place, so that not all of them fall into the same few sets of a first-level cache.
  plan.patch_elements = kPlaces * (plan.tile_block * channels + 32);
  plan.weight_elements = kPlaces * (plan.dims.in_c * kPanelChannels + 32);
  plan.sum_elements = plan.parts * kPlaces * plan.sum_tiles * kPanelChannels;
  plan.scratch_bytes = 2 * plan.patch_elements + 2 * plan.weight_elements + 4 * plan.sum_elements + channels;
}

}  // namespace

bool takes_winograd(const ConvDims& d) {
  return d.kernel_h == 3 && d.kernel_w == 3 && d.stride_h == 1 && d.stride_w == 1 && d.dilation_h == 1 &&
         d.dilation_w == 1 && d.groups == 1 && d.in_c > 0 && d.in_c % 16 == 0 && d.out_c > 0;
}

bool is_winograd_worth(const ConvDims& d, Isa isa) {
  if (!takes_winograd(d) || tiles_of(d) == 0) return false;
  const Cycles& cycles = isa == Isa::avx512_vnni ? kAvx512 : kAvx2;
  return winograd_cycles(d, isa, cycles) < kMargin * direct_cycles(d, cycles);
}

ConvWinogradPlan plan_conv_winograd(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue,
                                    const WinogradTarget& target) {
  ConvWinogradPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.isa = target.isa;
  plan.tiles_h = ceil_div(dims.out_h, 4);
  plan.tiles_w = ceil_div(dims.out_w, 4);
  plan.tiles = tiles_of(dims);
  plan.panels = panels_per_group(dims);
  plan.panel_bytes = panel_bytes_conv_vnni(dims);
  choose_parts(plan);
  if (plan.tiles > 0) choose_blocks(plan, target.workers);
  return plan;
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
