// Executor: how passes run a graph (calibration, sensitivity), whoever does the running.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ir/graph.h"

namespace aoq {

// Values to be shown while a graph runs. The view is valid during the call only; an error ends the run. Called on the
// caller's thread, in the order of the nodes.
struct Tap {
  std::vector<const Value*> values;
  std::function<Status(const Value&, TensorView)> callback = nullptr;  // null: nobody looks
};

// A graph made ready to run. Used by one thread at a time.
class Executable {
 public:
  virtual ~Executable() = default;
  // Inputs in the order of the graph's input nodes; results in the order of the output node's operands. invalid_data
  // where an input does not fit.
  virtual Result<std::vector<Tensor>> run(std::span<const Tensor> inputs, const Tap& tap = {}) = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // The graph must stay unchanged and alive as long as the result. Thread-safe.
  virtual Result<std::unique_ptr<Executable>> prepare(const Graph& graph) = 0;
};

}  // namespace aoq
