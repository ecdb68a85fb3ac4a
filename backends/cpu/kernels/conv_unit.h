// Which rows and panels a unit of a convolution's plan covers. In an unnamed namespace, as translation units of several
// instruction sets include it.
#pragma once

#include <cstdint>

namespace aoq::cpu {
namespace {

struct ConvUnit {
  std::int64_t row_unit;  // units with the same one share their rows and group: only the panels differ
  std::int64_t group;
  std::int64_t row_begin, row_end;
  std::int64_t panel_begin, panel_end;
};

// Units count panel blocks first, then groups, then row blocks.
template <typename Plan>
inline ConvUnit unit_at(const Plan& plan, std::int64_t unit) {
  ConvUnit u;
  u.row_unit = unit / plan.panel_blocks;
  u.group = u.row_unit % plan.dims.groups;
  u.row_begin = u.row_unit / plan.dims.groups * plan.row_block;
  u.row_end = plan.rows - u.row_begin < plan.row_block ? plan.rows : u.row_begin + plan.row_block;
  u.panel_begin = unit % plan.panel_blocks * plan.panel_block;
  u.panel_end = plan.panels - u.panel_begin < plan.panel_block ? plan.panels : u.panel_begin + plan.panel_block;
  return u;
}

}  // namespace
}  // namespace aoq::cpu
