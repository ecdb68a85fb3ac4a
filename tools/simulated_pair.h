// A float model and a simulated run of a recipe beside it, as `aoq compare --simulate` runs them.
#pragma once

#include <memory>
#include <string>

#include "passes/quantize/simulate.h"
#include "runtime/graph_executor.h"
#include "tools/quantize_flags.h"

namespace aoq::tools {

struct SimulatedPair {
  std::unique_ptr<GraphExecutor> executor;  // stays where it is: the simulation borrows it
  std::vector<InputPort> inputs;            // of the reference
  std::vector<std::string> outputs;         // names: of both
  std::vector<std::string> warnings;
  Simulation simulation;
};

// `reference` and `model` are paths of float models, often the same; `model` may be prepared or quantized already. The
// recipe and its ranges or data come from the flags.
Result<SimulatedPair> simulated_pair(const std::string& reference, const std::string& model, const QuantizeFlags& flags,
                                     const Console& console);

}  // namespace aoq::tools
