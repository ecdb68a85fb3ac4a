// Runs graphs for passes (calibration, sensitivity) with the runtime and its backends instead of the interpreter.
#pragma once

#include "ir/executor.h"
#include "runtime/model.h"

namespace aoq {

class GraphExecutor : public Executor {
 public:
  explicit GraphExecutor(ModelOptions options) : options_(std::move(options)) {}
  // Copies the graph, sharing its constants; the taps of the result take values of `graph`.
  Result<std::unique_ptr<Executable>> prepare(const Graph& graph) override;

 private:
  ModelOptions options_;
};

}  // namespace aoq
