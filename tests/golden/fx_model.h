// A golden case's float model, written with the module API from what the case tells: its FX graph, the classes of its
// modules, its state, and the attributes of its ONNX export where there is one.
#pragma once

#include <memory>

#include "ir/nn/modules.h"
#include "tests/golden/fx_text.h"
#include "tests/golden/golden.h"

namespace aoq::golden {

struct FxCase {
  std::vector<FxLine> graph;  // of the float model, without observers
  bool is_whole = true;       // traced by FX as it is; else what prepare made, observers taken away
  std::vector<ModuleLine> prepared_modules;
  nn::StateDict state;
  std::vector<std::vector<Tensor>> calibration;
  std::vector<Tensor> test;
};

Result<std::string> golden_text(const Case& c, const std::string& name);
Result<FxCase> read_fx_case(const Case& c);
// The traced graph. `bag_mode` is what embedding bags do: a case does not tell.
Result<Graph> trace_fx_case(const Case& c, const FxCase& fx, const std::string& bag_mode = "mean");
// The region classes of the custom modules that the cases use, and their forms. Once a process.
Status register_model_parts();

}  // namespace aoq::golden
