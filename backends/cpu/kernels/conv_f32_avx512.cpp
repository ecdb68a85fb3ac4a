// AVX-512 f32 convolution: for a block of output pixels, four panels at a time, block of K by block of K.
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_rows_f32.h"
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
  RowTiles tiles;          // of all its rows
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

TargetTileF32 at_row(TargetTileF32 target, std::int64_t row) {
  target.out += row * target.pitch;
  if (target.residual != nullptr) target.residual += row * target.pitch;
  return target;
}

// The weights that come after those of block `b` of K, as a panel's first line: further on in K, or of the panels
// behind. Tile t asks for panel t of them, so they are near when their turn comes. Its own weights where there are
// none.
const float* next_weights(const ConvF32Plan& plan, const Block& block, const TileF32& x, bool is_last,
                          std::int64_t panel) {
  if (panel >= block.panels) return x.weights;
  if (!is_last) return x.weights + x.runs * x.length * 16 + panel * x.panel_pitch;
  std::int64_t behind = block.panels + panel;
  if (block.panel + behind >= plan.panels) return x.weights;
  return x.weights + x.runs * x.length * 16 + (behind - 1) * x.panel_pitch;
}

// All of K for one block.
void multiply_block(const ConvF32Plan& plan, const ConvF32Args& args, const Block& block, const Scratch& s) {
  const KBlocks& k_blocks = block.k_blocks;
  std::int64_t run = k_blocks.run;
  TargetTileF32 target = target_of(plan, args, block);
  bool is_direct = is_clamped(plan.epilogue);
  const float* weights =
      reinterpret_cast<const float*>(args.weights) + (block.group * plan.panels + block.panel) * plan.k * 16;
  const MultiplyTileF32 multiply[] = {
      tile_f32_of(block.tiles.least, block.panels, target.last_columns),
      tile_f32_of(min_of(block.tiles.least + 1, kTileRows), block.panels, target.last_columns)};
  TileF32 x;
  x.panel_pitch = plan.k * 16;
  for (std::int64_t first = 0; first < plan.runs; first += k_blocks.runs) {
    std::int64_t offset = 0;
    do {  // once even for an empty run: its sums are zeros
      x.runs = min_of(plan.runs - first, k_blocks.runs);
      x.offset = offset;
      x.length = min_of(run - offset, k_blocks.length);
      x.is_first = first == 0 && offset == 0;
      x.weights = weights + (first * run + offset) * 16;
      bool is_last = first + x.runs == plan.runs && offset + x.length == run;
      std::int64_t row = block.tiles.begin(block.tile_begin);
      for (std::int64_t tile = block.tile_begin; tile < block.tile_end; ++tile) {
        std::int64_t rows = block.tiles.rows(tile);
        x.rows = s.rows + (tile * plan.runs + first) * kTileRows;
        x.acc = s.acc + row * kTileColumns;
        x.ahead = next_weights(plan, block, x, is_last, tile - block.tile_begin);
        TargetTileF32 here = at_row(target, row);
        multiply[rows - block.tiles.least](x, is_direct && is_last ? &here : nullptr);
        if (!is_direct && is_last) finish_tile_f32(plan.epilogue, here, rows, block.panels, x.acc);
        row += rows;
      }
      offset += k_blocks.length;
    } while (offset < run);
  }
}

// Tiles that some panels handle before the next panels have their turn. Many, so that the panels' weights are near; but
// few when all weights are near anyway: then the output is written almost in order.
std::int64_t tiles_per_turn(const ConvF32Plan& plan) {
  constexpr std::int64_t kNearBytes = 64 * 1024;
  return plan.panels * plan.k * 64 <= kNearBytes ? 4 : plan.row_block;
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
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    std::int64_t panel_begin = unit % plan.panel_blocks * plan.panel_block;
    std::int64_t panel_end = min_of(panel_begin + plan.panel_block, plan.panels);
    std::int64_t row_unit = unit / plan.panel_blocks;
    std::int64_t group = row_unit % d.groups;
    std::int64_t row_begin = row_unit / d.groups * plan.row_block;
    std::int64_t row_end = min_of(row_begin + plan.row_block, plan.rows);
    if (found != row_unit) find_rows(plan, args.x + group * (d.in_c / d.groups), row_begin, row_end, s);
    found = row_unit;
    Block block = {.k_blocks = k_blocks,
                   .channels = d.out_c / d.groups,
                   .row_begin = row_begin,
                   .tiles = RowTiles(row_end - row_begin),
                   .group = group};
    for (; block.tile_begin < block.tiles.count; block.tile_begin = block.tile_end) {
      block.tile_end = min_of(block.tile_begin + turn, block.tiles.count);
      multiply_panels(plan, args, block, panel_begin, panel_end, s);
    }
  }
}

}  // namespace aoq::cpu
