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
  std::vector<VisibleValue> visible;  // its results and their views
  StepInfo info;
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
  std::vector<PlanPort> input_ports, output_ports;
  std::vector<PlanStep> steps;
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

Result<std::unique_ptr<Plan>> build_plan(const Model& model, const Shapes& input_shapes, PackedStores& stores);

}  // namespace aoq
