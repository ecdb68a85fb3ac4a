// Modules that a recipe calls non-traceable (PyTorch's non_traceable_module_name and _class).
#pragma once

#include "passes/quantize/recipe.h"

namespace aoq::fx {

// Makes each of them one unit of an unknown kind: left in float, with stubs around. Errors name what is not there.
Status mark_leaves(Graph& graph, const CustomConfig& custom);

}  // namespace aoq::fx
