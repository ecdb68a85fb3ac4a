// Tuning: measures a model in float and in int8 on this machine, decides op by op, and checks the decision as a whole.
#pragma once

#include "tools/compiler.h"
#include "tools/console.h"
#include "tools/measure.h"
#include "tools/placement_model.h"
#include "tools/tuning_file.h"

namespace aoq::tools {

// One of several compilations of the model.
struct Compilation {
  bool in_float = false;                                   // else as the recipe says
  std::function<Status(Graph&, Ranges&)> place = nullptr;  // as in CompileOptions
};

struct TunedModel {
  std::function<Result<Compiled>(const Compilation&)> compile;
  ModelOptions options;
  std::vector<Tensor> inputs;
  Recipe recipe;
  double seconds = 10;  // of measuring, in all
};

// Measures in rounds in which everything takes its turn. What is not measured here (versions, hash, shapes) is left
// empty. Errors are those of compiling and running.
Result<Tuning> tune(const TunedModel& model, const Console& console);

}  // namespace aoq::tools
