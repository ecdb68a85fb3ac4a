// What passes need to run a graph: folding constants and calibrating observers.
//
// Implementations are the reference interpreter (ir/interpreter.h) and the CPU backend; tools hand one in.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "ir/tensor.h"

namespace aoq {

// Values to look at while a graph runs. `see` is called once a run for each of `values` that is not null, on the
// calling thread, in any order, as soon as the value is there; the view is valid during the call only. An error stops
// the run and is what run() returns.
struct Tap {
  std::vector<const Value*> values;
  std::function<Status(const Value&, TensorView)> see = nullptr;  // null: nobody looks
};

// A graph made ready to run. Its graph must outlive it and stay unchanged. run() is called by one thread at a time.
class Executable {
 public:
  virtual ~Executable() = default;
  // One tensor per graph input, in the order of Graph::input_nodes; gives the operands of the output node. invalid_data
  // when an input does not fit the model, or for what an op finds wrong with its data.
  virtual Result<std::vector<Tensor>> run(std::span<const Tensor> inputs, const Tap& tap = {}) = 0;
};

// Stateless apart from its configuration; prepare() may be called from several threads.
class Executor {
 public:
  virtual ~Executor() = default;
  // unsupported when the executor has no code for a node.
  virtual Result<std::unique_ptr<Executable>> prepare(const Graph& graph) const = 0;
};

}  // namespace aoq
