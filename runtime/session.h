// Session: one caller's memory and state for running a model. Used by one thread at a time; make one per thread.
//
// The first run with new input shapes builds a plan. From then on a run with these shapes makes no heap allocation,
// takes no lock and makes no system call of its own (a sleeping pool is woken once); what a kernel does is the
// backend's affair.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/executor.h"
#include "ir/tensor.h"
#include "runtime/model.h"

namespace aoq {

struct NamedInput {
  std::string_view name;
  TensorView tensor;
};

// Memory that a run holds, known before it starts.
struct MemoryNeed {
  std::uint64_t arena_bytes = 0;    // intermediate values and scratch
  std::uint64_t output_bytes = 0;   // results, where the session owns them
  std::uint64_t lower_bound = 0;    // the most bytes of values and scratch alive at one step
  std::uint64_t staging_bytes = 0;  // only where the caller's buffers are misaligned or overlap
};

struct StepInfo {
  std::string label;  // of the node
  std::string op;
  std::string backend;
  std::string row;
  bool inexact = false;
  std::vector<Refusal> refused;
  ConcreteType output;  // the first result
  std::uint64_t scratch_bytes = 0;
  bool in_place = false;
  std::uint64_t macs = 0;   // multiply-accumulates
  std::int64_t slices = 1;  // above 1: it runs that often, each time on a part of the batch
  std::int64_t loop = -1;   // steps with the same number take turns on a slice; -1: on the whole batch
};

struct PlanInfo {
  std::vector<StepInfo> steps;
  MemoryNeed memory;
};

// Asks a run how long its steps take, in nanoseconds, one for each of PlanInfo::steps: where a step runs on slices of
// the batch, all of them together, divided by the threads that share them. The buffer is the caller's.
struct StepTimes {
  std::span<std::int64_t> nanoseconds;
  // 1: from the end of the step before. More: the kernel runs that often in a row and the shortest time counts, so that
  // its operands are in the cache; a step that writes over its input still runs once.
  int repeats = 1;
};

using Shapes = std::vector<std::vector<std::int64_t>>;

class Session {
 public:
  // Owners of the model: the caller, this session and the others.
  static Result<Session> create(std::shared_ptr<const Model> model);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  const Model& model() const;

  // Inputs in the order of model().inputs(), or by name in any order, at any alignment. invalid_data names the input,
  // what was found and what is expected. The results belong to the session and are valid until its next run.
  Result<std::span<const TensorView>> run(std::span<const TensorView> inputs);
  Result<std::span<const TensorView>> run(std::span<const NamedInput> inputs);
  // Writes the results to the caller's buffers, whose dtypes and shapes must be those of the results. A result may lie
  // where an input lies; results must not overlap each other.
  Status run_into(std::span<const TensorView> inputs, std::span<const MutableTensorView> outputs);
  // Shows the values of model().graph() that the tap asks for: each right after the step that computed it, a view of it
  // then too. Constants are not shown. Allocates, and runs every step on the whole batch.
  Result<std::span<const TensorView>> run(std::span<const TensorView> inputs, const Tap& tap);

  // invalid_argument where there is not one time for each step. Allocates nothing once the shapes are known.
  Result<std::span<const TensorView>> run(std::span<const TensorView> inputs, const StepTimes& times);

  // What a run with these input shapes gives and needs. Builds the plan.
  Result<Shapes> output_shapes(const Shapes& input_shapes);
  Result<MemoryNeed> memory_needed(const Shapes& input_shapes);
  Result<PlanInfo> describe(const Shapes& input_shapes);

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aoq
