// AVX2 f32 convolution: for a block of output pixels, panel by panel, block of K by block of K.
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_rows_f32.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

// Some tiles of rows of one row block times a panel of a group.
struct Block {
  std::int64_t row_begin;  // of the row block
  std::int64_t tile_begin = 0;
  std::int64_t tile_end = 0;
  std::int64_t group = 0;
  std::int64_t panel = 0;
};

// What a tile asks for while it multiplies by `floats` weights: its half, if it is the first or the second of its
// block, of as many that lie behind them; else the weights themselves.
const float* ahead_of(const float* weights, std::int64_t floats, const float* end, std::int64_t tile) {
  const bool has_next = tile < 2 && end - weights >= 2 * floats;
  return has_next ? weights + floats + tile * floats / 2 : weights;
}

// All of K for one panel of one row block.
void multiply_panel(const ConvF32Plan& plan, const ConvF32Args& args, const Block& block, const Scratch& s) {
  std::int64_t run = plan.k / plan.runs;
  std::int64_t runs_per_block = max_of(kBlockK / max_of(run, 1), 1);
  std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  std::int64_t columns = min_of(group_out - block.panel * 16, 16);
  std::int64_t channel = block.group * group_out + block.panel * 16;
  std::int64_t first_row = s.tiles[block.tile_begin].row;
  std::int64_t at = (block.row_begin + first_row) * plan.dims.out_c + channel;
  TargetF32 target = {
      .rows = s.tiles[block.tile_end - 1].row + s.tiles[block.tile_end - 1].rows - first_row,
      .columns = columns,
      .pitch = plan.dims.out_c,
      .bias = plan.epilogue.has_bias ? args.bias + (block.group * plan.panels + block.panel) * 16 : nullptr,
      .residual = plan.epilogue.has_residual ? args.residual + at : nullptr,
      .out = args.out + at};
  bool is_direct = is_clamped(plan.epilogue, columns);
  const float* weights =
      reinterpret_cast<const float*>(args.weights) + (block.group * plan.panels + block.panel) * plan.k * 16;
  const float* end = reinterpret_cast<const float*>(args.weights) + plan.dims.groups * plan.panels * plan.k * 16;
  for (std::int64_t first = 0; first < plan.runs; first += runs_per_block) {
    std::int64_t offset = 0;
    do {  // once even for an empty run: its sums are zeros
      TileRows x;
      x.offset = offset;
      x.length = min_of(run - offset, kBlockK);
      bool is_whole = offset + x.length == run;
      for (std::int64_t tile = block.tile_begin; tile < block.tile_end; ++tile) {
        RunPart part = part_of(s.tiles[tile], first, min_of(first + runs_per_block, plan.runs));
        if (part.is_none) continue;
        std::int64_t row = s.tiles[tile].row - first_row;
        x.rows = s.rows + (tile * plan.runs + part.begin) * kTileRows;
        x.taps = part.count;
        x.is_first = part.is_first && offset == 0;
        ClampedTarget clamped = clamped_target(plan.epilogue, target, row);
        const float* w = weights + (part.begin * run + offset) * 16;
        x.ahead = ahead_of(w, part.count * x.length * 16, end, tile - block.tile_begin);
        tile_f32_of(s.tiles[tile].rows, columns)(x, w, s.acc + row * 16,
                                                 is_direct && part.is_last && is_whole ? &clamped : nullptr);
      }
      offset += kBlockK;
    } while (offset < run);
  }
  if (!is_direct) store_tile_f32(plan.epilogue, target, s.acc);
}

// Tiles that one panel handles before the next panel has its turn. Many, so that a panel's weights are near; but few
// when all weights are near anyway: then the output is written almost in order.
std::int64_t tiles_per_turn(const ConvF32Plan& plan) {
  constexpr std::int64_t kNearBytes = 64 * 1024;
  return plan.panels * plan.k * 64 <= kNearBytes ? 2 : plan.tiles;
}

}  // namespace

void run_conv_f32_avx2(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                       std::byte* scratch) {
  const ConvDims& d = plan.dims;
  Scratch s = lay_out(plan, scratch);
  std::int64_t turn = tiles_per_turn(plan);
  std::int64_t found = -1;
  std::int64_t tiles = 0;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit u = unit_at(plan, unit);
    if (found != u.row_unit) {
      tiles = find_rows(plan, args.x + u.group * (d.in_c / d.groups), u.row_begin, u.row_end, s);
    }
    found = u.row_unit;
    Block block = {.row_begin = u.row_begin, .group = u.group};
    for (; block.tile_begin < tiles; block.tile_begin = block.tile_end) {
      block.tile_end = min_of(block.tile_begin + turn, tiles);
      for (block.panel = u.panel_begin; block.panel < u.panel_end; ++block.panel) multiply_panel(plan, args, block, s);
    }
  }
}

}  // namespace aoq::cpu
