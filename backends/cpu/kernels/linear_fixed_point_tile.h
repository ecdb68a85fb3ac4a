// What a tile of a fixed point linear reads, for translation units of every instruction set
// (narrow_linear.h).
#pragma once

#include "backends/cpu/kernels/narrow_linear.h"

namespace aoq::cpu {
namespace {

struct Tile {
  const NarrowLinearPlan* plan;
  const LinearFixedPointArgs* args;
  std::int64_t row, panel, panel_step, blocks;  // its panels are panel_step apart
};

// What a block of a tile begins and ends with; the next row's `block` is `blocks` on, the next panel's constants
// `panel_constants`.
struct Ends {
  const FixedPointBlock* block;
  const float* sums;  // or null, as are the two below
  const float* scales;
  const std::int16_t* zero_points;
  const float* zeros;
  std::int64_t blocks, groups, panel_constants;

  explicit Ends(const Tile& tile)
      : blocks(tile.blocks), groups(tile.plan->groups), panel_constants(tile.panel_step * tile.plan->groups * 16) {
    const LinearFixedPointArgs& args = *tile.args;
    block = args.blocks + tile.row * blocks;
    sums = args.sums == nullptr ? nullptr : args.sums + tile.row * groups;
    const std::int64_t at = tile.panel * groups * 16;
    scales = args.weight.scales + at;
    zero_points = args.weight.zero_points == nullptr ? nullptr : args.weight.zero_points + at;
    zeros = args.weight.zeros == nullptr ? nullptr : args.weight.zeros + at;
  }
};

}  // namespace
}  // namespace aoq::cpu
