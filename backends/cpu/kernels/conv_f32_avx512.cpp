// AVX-512 f32 convolution: for a block of output pixels, four panels at a time, block of K by block of K.
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_rows_f32.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/tile_f32_avx512.h"

namespace aoq::cpu {
namespace {

static_assert(kRowsPerTile == kTileRows);

// K of one block at most: its weights in four panels are 192 KB, and stay in a second-level cache while the row tiles
// pass.
constexpr std::int64_t kBlockK = 768;

// How K is cut: into blocks of whole runs, or of parts of a run, of about the same length.
struct KBlocks {
  std::int64_t run;     // values of a run
  std::int64_t runs;    // of one block at most
  std::int64_t length;  // of one block's runs at most
};

KBlocks cut_k(const ConvF32Plan& plan) {
  std::int64_t run = plan.k / plan.runs;
  if (run > kBlockK) {
    std::int64_t blocks = (run + kBlockK - 1) / kBlockK;
    std::int64_t length = (run + blocks - 1) / blocks;
    return {run, 1, (length + 15) / 16 * 16};
  }
  std::int64_t most = kBlockK / max_of(run, 1);
  std::int64_t blocks = (plan.runs + most - 1) / most;
  return {run, (plan.runs + blocks - 1) / blocks, run};
}

// Some tiles of rows of one row block times some panels of a group.
struct Block {
  KBlocks k_blocks;
  std::int64_t channels;   // of the group
  std::int64_t row_begin;  // of the row block
  std::int64_t tile_begin = 0;
  std::int64_t tile_end = 0;
  std::int64_t group = 0;
  std::int64_t panel = 0;
  std::int64_t panels = 0;
};

TargetTileF32 target_of(const ConvF32Plan& plan, const ConvF32Args& args, const Block& block) {
  const EpilogueF32& e = plan.epilogue;
  std::int64_t at = block.row_begin * plan.dims.out_c + block.group * block.channels + block.panel * 16;
  TargetTileF32 target = target_of(e, plan.dims.out_c);
  if (e.has_bias) target.bias = args.bias + (block.group * plan.panels + block.panel) * 16;
  if (e.has_residual) target.residual = args.residual + at;
  target.out = args.out + at;
  target.last_columns = min_of(block.channels - (block.panel + block.panels - 1) * 16, 16);
  return target;
}

// A block of K: some runs, or a part of one.
struct KBlock {
  std::int64_t first, end;  // runs
  std::int64_t offset, length;
  const float* weights;  // of the first panel
  std::int64_t panel_pitch;
  bool is_last;
};

// The weights after those of a block of K, as a panel's first line: further on in K, or of the panels behind. Tile t
// asks for panel t of them, so they are near when their turn comes. The block's own where there are none.
const float* next_weights(const ConvF32Plan& plan, const Block& block, const KBlock& k, std::int64_t panel) {
  if (panel >= block.panels) return k.weights;
  const float* end = k.weights + (k.end - k.first) * k.length * 16;
  if (!k.is_last) return end + panel * k.panel_pitch;
  std::int64_t behind = block.panels + panel;
  if (block.panel + behind >= plan.panels) return k.weights;
  return end + (behind - 1) * k.panel_pitch;
}

// One block of K for one tile.
void multiply_tile(const ConvF32Plan& plan, const Block& block, const KBlock& k, TargetTileF32 target,
                   std::int64_t index, const Scratch& s) {
  const RowTile& tile = s.tiles[index];
  RunPart part = part_of(tile, k.first, k.end);
  if (part.is_none) return;
  TileF32 x = {.rows = s.rows + (index * plan.runs + part.begin) * kTileRows,
               .runs = part.count,
               .offset = k.offset,
               .length = k.length,
               .weights = k.weights + (part.begin - k.first) * k.length * 16,
               .panel_pitch = k.panel_pitch,
               .ahead = next_weights(plan, block, k, index - block.tile_begin),
               .acc = s.acc + tile.row * kTileColumns,
               .is_first = part.is_first && k.offset == 0};
  target.out += tile.row * target.pitch;
  if (target.residual != nullptr) target.residual += tile.row * target.pitch;
  bool is_finished = part.is_last && k.offset + k.length == block.k_blocks.run;
  bool is_direct = is_finished && is_clamped(plan.epilogue);
  tile_f32_of(tile.rows, block.panels, target.last_columns)(x, is_direct ? &target : nullptr);
  if (is_finished && !is_direct) finish_tile_f32(plan.epilogue, target, tile.rows, block.panels, x.acc);
}

// All of K for one block.
void multiply_block(const ConvF32Plan& plan, const ConvF32Args& args, const Block& block, const Scratch& s) {
  const KBlocks& k_blocks = block.k_blocks;
  TargetTileF32 target = target_of(plan, args, block);
  const float* weights =
      reinterpret_cast<const float*>(args.weights) + (block.group * plan.panels + block.panel) * plan.k * 16;
  KBlock k = {.panel_pitch = plan.k * 16};
  for (k.first = 0; k.first < plan.runs; k.first = k.end) {
    k.end = min_of(k.first + k_blocks.runs, plan.runs);
    k.offset = 0;
    do {  // once even for an empty run: its sums are zeros
      k.length = min_of(k_blocks.run - k.offset, k_blocks.length);
      k.weights = weights + (k.first * k_blocks.run + k.offset) * 16;
      k.is_last = k.end == plan.runs && k.offset + k.length == k_blocks.run;
      for (std::int64_t tile = block.tile_begin; tile < block.tile_end; ++tile) {
        multiply_tile(plan, block, k, target, tile, s);
      }
      k.offset += k.length;
    } while (k.offset < k_blocks.run);
  }
}

// Tiles that some panels handle before the next panels have their turn. Many, so that the panels' weights are near; but
// few when all weights are near anyway: then the output is written almost in order.
std::int64_t tiles_per_turn(const ConvF32Plan& plan) {
  constexpr std::int64_t kNearBytes = 64 * 1024;
  return plan.panels * plan.k * 64 <= kNearBytes ? 4 : plan.tiles;
}

// Panels [begin, end), as evenly as it goes in steps of at most four, for the tiles of a block.
void multiply_panels(const ConvF32Plan& plan, const ConvF32Args& args, Block block, std::int64_t begin,
                     std::int64_t end, const Scratch& s) {
  for (block.panel = begin; block.panel < end; block.panel += block.panels) {
    std::int64_t steps = (end - block.panel + kTilePanels - 1) / kTilePanels;
    block.panels = (end - block.panel + steps - 1) / steps;
    multiply_block(plan, args, block, s);
  }
}

}  // namespace

void run_conv_f32_avx512(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin,
                         std::int64_t unit_end, std::byte* scratch) {
  const ConvDims& d = plan.dims;
  Scratch s = lay_out(plan, scratch);
  std::int64_t turn = tiles_per_turn(plan);
  KBlocks k_blocks = cut_k(plan);
  std::int64_t found = -1;
  std::int64_t tiles = 0;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit u = unit_at(plan, unit);
    if (found != u.row_unit) {
      tiles = find_rows(plan, args.x + u.group * (d.in_c / d.groups), u.row_begin, u.row_end, s);
    }
    found = u.row_unit;
    Block block = {.k_blocks = k_blocks, .channels = d.out_c / d.groups, .row_begin = u.row_begin, .group = u.group};
    for (; block.tile_begin < tiles; block.tile_begin = block.tile_end) {
      block.tile_end = min_of(block.tile_begin + turn, tiles);
      multiply_panels(plan, args, block, u.panel_begin, u.panel_end, s);
    }
  }
}

}  // namespace aoq::cpu
