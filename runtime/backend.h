// Backend: where kernels come from. The host passes backends in; the runtime never names one.
//
// For every node of a plan the backend chooses the best kernel row that accepts the node at its concrete shapes, and
// prepares it: constants packed, multipliers computed, scratch sized. A prepared kernel is immutable; running it
// neither allocates nor locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/status.h"

namespace aoq {

class ThreadPool;

// One value at concrete shape.
struct ConcreteType {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
};

// What a kernel sees when it runs. Pointers are in operand order, aligned to their elements (a byte for sub-byte types)
// and to no more, as they may be the caller's own. Null for absent inputs and for packed constants, which the kernel
// asked the PackedStore for; never null for an input without elements.
struct RunContext {
  std::span<const std::byte* const> inputs;
  std::span<std::byte* const> outputs;
  std::byte* scratch = nullptr;  // Kernel::scratch_bytes(), 64-byte aligned, shared by the workers of this step
  ThreadPool* pool = nullptr;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual Status run(const RunContext& context) const = 0;
  // For the whole step, all workers together, given the pool size of PrepareContext.
  virtual std::uint64_t scratch_bytes() const { return 0; }
  // The result may share the buffer of this input (elementwise kernels); -1: none.
  virtual int in_place_input() const { return -1; }
};

// Packed constants of a model: made once, shared by all plans and sessions. Thread-safe.
class PackedStore {
 public:
  virtual ~PackedStore() = default;
  // The bytes of `constant` (the value of a constant or packed_constant node) in `layout`: in place when the file has
  // them, else packed by Backend::pack on first use and kept. The empty layout is the plain one. 64-byte aligned, valid
  // as long as the model. unsupported when the value is no constant or its layout cannot be read.
  virtual Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) = 0;
};

struct PrepareContext {
  const Node& node;
  std::span<const ConcreteType> inputs;  // rank 0 and dtype f32 where absent: test node.input(i)
  std::span<const ConcreteType> outputs;
  const Attributes& attributes;  // with dimensions as numbers
  PackedStore& store;
  int workers = 1;                   // threads that may run the step, the caller's included
  bool deterministic = false;        // leave out rows marked inexact
  std::string_view chosen_row = {};  // tried before all others (runtime/kernel_choice.h); empty: none
};

struct Refusal {
  std::string row;
  std::string reason;
};

struct PreparedKernel {
  std::unique_ptr<Kernel> kernel;
  std::string row;               // "qconv_s8_avx2", for inspect
  bool inexact = false;          // may differ from the reference in the last bits
  std::vector<Refusal> refused;  // better rows that did not take the node, and why
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view isa() const = 0;  // "avx2", "reference", ...
  // Error unsupported when no row takes the node. Thread-safe.
  virtual Result<PreparedKernel> prepare(const PrepareContext& context) const = 0;
  // Arranges a plain constant for `layout`, or back. Thread-safe. `shape` and `dtype` are the logical ones.
  virtual Result<std::vector<std::byte>> pack(const Tensor& plain, std::string_view layout) const = 0;
  virtual Result<Tensor> unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                                std::string_view layout) const = 0;
  // The layout in which the kernel for this node wants operand `operand` (a constant), empty for plain. Used when a
  // file is packed for this machine. `chosen_row` is that of PrepareContext.
  virtual std::string preferred_layout(const Node& node, std::size_t operand, std::string_view chosen_row) const = 0;
};

}  // namespace aoq
