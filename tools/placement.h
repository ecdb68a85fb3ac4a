// Placement: which ops of a model run in int8 and which in float, so that the whole costs least.
//
//   cost = sum over ops of the cost in their precision
//        + quantize_cost of every value that is made in float and read by an int8 op
//        + dequantize_cost of every value that is made in int8 and read in float
//
// An op in int8 amid float ops pays for its borders, several in a row share them: neither every op by itself nor the
// whole at once gives the least. Two labels with costs of this form are a minimum cut, which is solved exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace aoq::tools {

// Costs are in microseconds, 0 or more.
struct PlacementOp {
  double float_cost = 0;
  double int8_cost = 0;
  // Runs in int8 only where an int8 op reads its result: ops between weighted ones.
  bool needs_reader = false;
};

inline constexpr std::size_t kFloatMade = SIZE_MAX;

struct PlacementValue {
  std::size_t made_by = kFloatMade;  // an op, or what is float whatever is decided
  std::vector<std::size_t> read_by;  // ops that read codes when they run in int8
  bool is_read_in_float = false;     // also by what is float whatever is decided
  double quantize_cost = 0;
  double dequantize_cost = 0;
};

struct PlacementProblem {
  std::vector<PlacementOp> ops;
  std::vector<PlacementValue> values;
  std::vector<std::pair<std::size_t, std::size_t>> needs;  // the first runs in int8 only if the second does
};

// For each op: true for int8.
using Placement = std::vector<bool>;

double cost_of(const PlacementProblem& problem, const Placement& placement);

// The least cost of all placements that `needs` allows, where no op needs a reader; otherwise never more than all ops
// in int8 or all in float cost. Of placements that cost the same the one with most int8.
Placement solve(const PlacementProblem& problem);

// Ops in float that touch each other through values, and what they cost with the conversions around them, as they are
// and in int8.
struct FloatRegion {
  std::vector<std::size_t> ops;
  double float_cost = 0;
  double int8_cost = 0;
};
std::vector<FloatRegion> float_regions(const PlacementProblem& problem, const Placement& placement);

// Regions that save no more than `share` of what they cost in int8, or no more than `least`, go back to int8: regions
// do not touch each other, so the rest is as good as before.
Placement without_small_savings(const PlacementProblem& problem, Placement placement, double share, double least);

}  // namespace aoq::tools
