// Plan: a model at exact shapes, as a flat array of steps. Internal to the runtime.
//
// Immutable once built, shared by the sessions of a model. Operands are places, which a session turns into pointers
// once: only those of inputs and results change from run to run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/tensor.h"
#include "runtime/backend.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace aoq {

// Where a value lies.
struct Place {
  enum class Kind : std::uint8_t { none, arena, input, output, constant };
  Kind kind = Kind::none;
  std::uint32_t index = 0;          // of the input or output
  std::uint64_t offset = 0;         // in the arena
  const std::byte* data = nullptr;  // of the constant
  // In a loop: how far it moves from slice to slice, and whether each worker has its own.
  std::uint64_t slice_bytes = 0;
  bool is_per_worker = false;
};

// A value that a tap can see after a step.
struct VisibleValue {
  const Value* value = nullptr;
  ConcreteType type;
  Place place;
};

struct PlanStep {
  const Node* node = nullptr;
  std::unique_ptr<Kernel> kernel;
  std::uint32_t first_input = 0, input_count = 0;    // in Plan::inputs
  std::uint32_t first_output = 0, output_count = 0;  // in Plan::outputs
  std::uint64_t scratch_offset = 0;
  std::vector<VisibleValue> visible;  // its results and their views; empty where the plan has loops
  StepInfo info;
};

// Steps that are executed slice by slice of the batch (runtime/batch_loops.h). With more than one worker the slices are
// shared out, and a kernel runs on one thread; else its own work is split.
struct PlanLoop {
  std::uint32_t first_step = 0, step_count = 0;
  std::int64_t slices = 1;
  int workers = 1;
  std::uint64_t worker_bytes = 0;  // from one worker's values and scratch to the next one's, in the arena
};

// A result that no step writes in place: it is another result, an input or a constant.
struct OutputCopy {
  std::uint32_t output = 0;
  Place from;
};

struct PlanPort {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes = 0;
  std::uint64_t alignment = 1;  // of an element
  std::uint64_t offset = 0;     // in the block that holds all inputs and results of a session
};

struct Plan {
  PlanUse use = PlanUse::run;
  std::vector<PlanPort> input_ports, output_ports;
  std::vector<PlanStep> steps;
  std::vector<PlanLoop> loops;         // in order; steps of none run once
  std::vector<Place> inputs, outputs;  // operands of all steps
  std::vector<OutputCopy> copies;
  std::vector<VisibleValue> visible_inputs;  // graph inputs and their views
  MemoryNeed memory;
};

// `store(backend)` gives the packed constants for kernels of a backend.
class PackedStores {
 public:
  virtual ~PackedStores() = default;
  virtual PackedStore& store(const Backend& backend) = 0;
};

Result<std::unique_ptr<Plan>> build_plan(const Model& model, const Shapes& input_shapes, PlanUse use,
                                         PackedStores& stores);

}  // namespace aoq
