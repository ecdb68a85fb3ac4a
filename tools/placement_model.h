// The placement problem of a model: what prepare would make integer, op by op, and the values between.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"
#include "tools/placement.h"

namespace aoq::tools {

struct PlacedValue {
  const Value* value = nullptr;
  std::string observer;  // its name; empty where the value is not observed
  bool is_dynamic = false;
  std::int64_t elements = 0;  // at the shapes of a run; 0: not known
};

// Costs are 0 until somebody fills them in.
struct PlacementModel {
  PlacementProblem problem;
  std::vector<Node*> ops;           // as problem.ops, in the order of the graph
  std::vector<PlacedValue> values;  // as problem.values
};

// Of a traced graph after its rewrites. Empty for recipes that leave nothing to decide: none, weight-only, torchao's
// configurations, and those of PyTorch's backends, whose ops run as their workflow says.
Result<PlacementModel> placement_model(const Graph& traced, const Recipe& recipe);

// Ops that share a scale share an observer, under the name of the first. After some were declined another may be the
// first: gives the ranges that were learnt before under the new names too.
Status rename_ranges(const PlacementModel& before, const PlacementModel& after, Ranges& ranges);

// "conv f32[1, 3, 224, 224] f32[32, 3, 3, 3] -> f32[1, 32, 112, 112]": the op and the types of what it reads and makes.
std::string shape_key(const Node& node);

}  // namespace aoq::tools
