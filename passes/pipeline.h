// The pipeline: the passes that take an imported graph to `lowered`, in order.
#pragma once

#include <functional>

#include "passes/pass.h"
#include "passes/quantize/recipe.h"

namespace aoq {

struct PipelineOptions {
  // Float stays float with QuantMode::none. Static mode needs ranges: those in context.ranges, and with context.data
  // what running over it adds.
  QuantMode mode = QuantMode::none;
  Stage last = Stage::lowered;  // the stage to stop at
  PassRunOptions run;
  // Called with the traced graph when its rewrites are done and before anything is quantized: may decline() nodes.
  std::function<Status(Graph&)> before_quantizing = nullptr;
};

// A graph that is past a stage starts behind it. `context` lends what stages need (passes/pass.h).
Status run_pipeline(Graph& graph, PassContext& context, const PipelineOptions& options);

}  // namespace aoq
