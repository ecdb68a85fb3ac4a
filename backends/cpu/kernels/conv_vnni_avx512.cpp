// Runs the plan of conv_vnni.h on AVX-512: which tiles take a unit's rows, and how their sums end.
#include "backends/cpu/kernels/conv_gather_avx512.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/conv_vnni_tiles_avx512.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/epilogue_s8.h"

namespace aoq::cpu {
namespace {

Range range_of(const EpilogueS8& e, std::int64_t columns) {
  if (!has_whole_codes(e) || columns % 16 != 0) return Range::any;
  const bool has_plain_residual = !e.has_residual || (e.residual_type == DType::u8 && e.residual_zero_point == 0);
  return has_plain_residual ? Range::plain : Range::saturated;
}

// One or two panels, and the place in a block of rows where their tiles have come to.
struct PanelRun {
  PanelTile tile;
  TileEnd end;
  End kind;
  int panels;
  std::int64_t columns;
  std::int64_t first;  // column of the output
  std::int64_t row, row_end;
  RunSmallTiles small_tiles;  // or null
};

PanelRun panel_run(const ConvPanelsPlan& plan, const ConvS8Args& args, const ConvUnit& block, const std::uint8_t* rows,
                   std::int64_t panel) {
  const std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  const std::int64_t columns = min_of(group_out - panel * 16, 32);
  const std::int64_t panel_index = block.group * plan.panels + panel;
  const std::byte* panels = args.weights + panel_index * plan.panel_bytes;
  PanelRun run;
  run.tile = {.rows = rows,
              .pitch = plan.pitch,
              .panels = panels,
              .panel_bytes = plan.panel_bytes,
              .steps = plan.steps,
              .zero_point = args.x_zero_point + (plan.x_type == DType::i8 ? 128 : 0),
              .ahead = panels + 2 * plan.panel_bytes};
  run.end = tile_end(plan.epilogue, args.epilogue, panel_index * 16, columns);
  run.end.pitch = plan.dims.out_c;
  run.panels = columns > 16 ? 2 : 1;
  run.columns = columns;
  run.kind = end_of(plan.epilogue, run.end, plan.k, run.panels);
  run.first = block.group * group_out + panel * 16;
  run.row = block.row_begin;
  run.row_end = block.row_end;
  return run;
}

// Points the end of a tile at the row that is next.
void set_output(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  const std::int64_t element = plan.epilogue.out_type == DType::f32 ? 4 : 1;
  const std::int64_t at = (run.row * plan.dims.out_c + run.first) * element;
  run.end.out = static_cast<std::uint8_t*>(args.epilogue.out) + at;
  const auto* residual = static_cast<const std::uint8_t*>(args.epilogue.residual);
  run.end.residual = plan.epilogue.has_residual ? residual + at : nullptr;
}

// Runs so many small tiles, if there are such for these panels.
void run_small_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run, std::int64_t tiles) {
  const std::int64_t least =
      run.kind == End::codes_with_residual ? kParts<End::codes_with_residual> : kParts<End::codes>;
  const bool has_steps = run.tile.steps >= least && run.tile.steps <= kVnniSmallSteps;
  if (run.small_tiles == nullptr || !has_steps || tiles == 0) return;
  set_output(plan, args, run);
  run.small_tiles(run.tile, run.end, tiles);
  const std::int64_t rows = tiles * (kVnniSmallTileRows / run.panels);
  run.tile.rows += rows * plan.pitch;
  run.row += rows;
}

void multiply_small_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  run.small_tiles = small_tiles_of(run.kind, range_of(plan.epilogue, run.columns), run.columns);
  run_small_tiles(plan, args, run, (run.row_end - run.row) / (kVnniSmallTileRows / run.panels));
}

// Tiles of nearly the same height.
void multiply_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  alignas(64) std::int32_t sums[2 * kEndRows * 16];
  run.end.sums = sums;
  const std::int64_t left = run.row_end - run.row;
  const bool is_few = left < kVnniSmallTileRows / run.panels;
  const bool is_here = run.kind == End::floats || (is_few && run.kind != End::codes_of_hardswish);
  const End kind = is_here ? run.kind : End::sums;
  const std::byte* ahead_end = run.tile.ahead + 2 * plan.panel_bytes;
  std::int64_t tiles = (left + kTileRows - 1) / kTileRows;
  for (; run.row < run.row_end; --tiles) {
    const std::int64_t count = (run.row_end - run.row + tiles - 1) / tiles;
    set_output(plan, args, run);
    (run.panels == 2 ? tile_of<2>(kind, count) : tile_of<1>(kind, count))(run.tile, run.end);
    if (kind == End::sums) finish_sums(plan.epilogue, run.end, run.kind, count, run.panels);
    run.tile.rows += count * plan.pitch;
    const std::byte* ahead = run.tile.ahead + run.tile.steps / 4 * 128;
    run.tile.ahead = ahead < ahead_end ? ahead : run.tile.panels;
    run.row += count;
  }
}

// Gathers the rows of a block, whose pixels are a vector each, and multiplies some meanwhile: where one tile has all
// panels, pixels are gathered between the products of those before, as loads and products have units of their own.
void gather_and_multiply(const ConvPanelsPlan& plan, const ConvS8Args& args, const Gather& gather,
                         std::uint8_t* gathered, PanelRun& run) {
  const ThreeRunPlaces places = places_of(plan.dims.kernel_w * plan.dims.in_c, gather);
  run.tile.places = &places;
  run.small_tiles = gathering_tiles_of(run.kind, range_of(plan.epilogue, run.columns), run.columns);
  gather_rows(plan, gather, 0, run.row, run.row_end, gathered, [&](InnerPixels p) {
    const std::int64_t ready = (p.out - run.tile.rows) / plan.pitch;
    run.tile.later = &p;
    run_small_tiles(plan, args, run, min_of(ready, p.pixels) / (kVnniSmallTileRows / run.panels));
    gather_next(p, places, p.pixels);
  });
}

}  // namespace

void run_conv_avx512_vnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                          std::int64_t unit_end, std::byte* scratch) {
  auto* gathered = reinterpret_cast<std::uint8_t*>(scratch);
  const std::int32_t shift = plan.x_type == DType::i8 ? 128 : 0;
  const ConvDims& d = plan.dims;
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  const Gather gather = {.x = x,
                         .x_end = x + d.batch * d.in_h * d.in_w * d.in_c,
                         .flip = _mm512_set1_epi8(static_cast<char>(shift)),
                         .fill = _mm512_set1_epi8(static_cast<char>(args.x_zero_point + shift))};
  const bool has_three_runs = !plan.reads_in_place && d.groups == 1 && d.dilation_w == 1 && plan.panels <= 2 &&
                              are_one_vector(d.kernel_h, d.kernel_w * d.in_c);
  std::int64_t held = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit block = unit_at(plan, unit);
    const std::uint8_t* rows = plan.reads_in_place ? gather.x + block.row_begin * plan.pitch : gathered;
    // Units that follow each other share their rows when only the panels differ.
    if (!plan.reads_in_place && !has_three_runs && held != block.row_unit) {
      gather_rows(plan, gather, block.group, block.row_begin, block.row_end, gathered,
                  [&](const InnerPixels& p) { gather_inner_pixels(p, gather); });
      held = block.row_unit;
    }
    for (std::int64_t panel = block.panel_begin; panel < block.panel_end; panel += 2) {
      PanelRun run = panel_run(plan, args, block, rows, panel);
      if (has_three_runs) gather_and_multiply(plan, args, gather, gathered, run);
      multiply_small_tiles(plan, args, run);
      multiply_tiles(plan, args, run);
    }
  }
}

}  // namespace aoq::cpu
