// What the rows of the CPU backend share: how a row refuses a node, splits its work and reads constants.
//
// A row is a function that makes the kernel for a node at concrete shapes, or says why it does not (Code::unsupported).
// All preparation happens there; the kernel then only reads, computes and writes.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/cpu/cpu_features.h"
#include "runtime/backend.h"
#include "runtime/thread_pool.h"

namespace aoq::cpu {

using KernelResult = Result<std::unique_ptr<Kernel>>;
using MakeKernel = KernelResult (*)(const PrepareContext&);

template <typename... Args>
Status refuse(fmt::format_string<Args...> format, Args&&... args) {
  return Status(Code::unsupported, fmt::format(format, std::forward<Args>(args)...));
}

struct KernelNeeds {
  std::uint64_t scratch_bytes = 0;
  int in_place_input = -1;
};

// A kernel whose run is a callable `Status(const RunContext&)`, which owns everything that was prepared.
template <typename Run>
class CallableKernel final : public Kernel {
 public:
  CallableKernel(Run run, KernelNeeds needs) : run_(std::move(run)), needs_(needs) {}
  Status run(const RunContext& context) const override { return run_(context); }
  std::uint64_t scratch_bytes() const override { return needs_.scratch_bytes; }
  int in_place_input() const override { return needs_.in_place_input; }

 private:
  Run run_;
  KernelNeeds needs_;
};

template <typename Run>
KernelResult make_kernel(Run run, KernelNeeds needs = {}) {
  return std::unique_ptr<Kernel>(std::make_unique<CallableKernel<Run>>(std::move(run), needs));
}

// Independent units of work and the workers that they are worth.
struct Split {
  std::int64_t units = 0;
  int workers = 1;
};
// `unit_cost` in elementary steps (an element copied, a few multiply-adds): little work stays on the caller's thread.
Split split_work(std::int64_t units, std::int64_t unit_cost, const PrepareContext& context);

// Calls body(worker, begin, end) for ranges that cover the units; worker < split.workers.
template <typename Body>
void run_split(const RunContext& context, const Split& split, Body&& body) {
  if (split.units <= 0) return;
  if (context.pool == nullptr || split.workers <= 1) {
    body(0, std::int64_t{0}, split.units);
  } else {
    context.pool->parallel_for(split.units, body, split.workers);
  }
}

// Elementwise work in blocks, so that a split lies on vector and cache line boundaries.
inline constexpr std::int64_t kBlockElements = 1024;
Split split_elements(std::int64_t elements, std::int64_t element_cost, const PrepareContext& context);
// Calls body(begin, end) for ranges of elements.
template <typename Body>
void run_elements(const RunContext& context, const Split& split, std::int64_t elements, Body&& body) {
  run_split(context, split, [&](int, std::int64_t begin, std::int64_t end) {
    body(begin * kBlockElements, std::min(end * kBlockElements, elements));
  });
}

template <typename T>
const T* input_of(const RunContext& context, std::size_t i) {
  return i < context.inputs.size() ? reinterpret_cast<const T*>(context.inputs[i]) : nullptr;
}
template <typename T>
T* output_of(const RunContext& context, std::size_t i = 0) {
  return reinterpret_cast<T*>(context.outputs[i]);
}

std::int64_t element_count(std::span<const std::int64_t> shape);
inline std::int64_t element_count(const ConcreteType& type) {
  return element_count(type.shape);
}
// In bytes; 0 for types narrower than a byte.
std::int64_t element_bytes(DType dtype);
// The axis attribute, counted from the front. It was range-checked by inference.
std::int64_t normalized_axis(std::int64_t axis, std::size_t rank);
inline std::int64_t bytes_to_cache_line(std::int64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// The tensor of an operand that is a plain constant; null otherwise.
const Tensor* constant_input(const PrepareContext& context, std::size_t i);
// Whether the operand is a constant: plain, packed, or computed when the model is loaded.
bool is_weight(const Value* value);
// The floats of operand i; empty where it is absent, refused where it is not a plain f32 constant of `size` elements.
Result<std::vector<float>> float_constants(const PrepareContext& context, std::size_t i, std::int64_t size);
// Packed bytes of operand i, whose size must be `bytes`.
Result<const std::byte*> packed_input(const PrepareContext& context, std::size_t i, std::string_view layout,
                                      std::int64_t bytes);
// An attribute that may be missing, as f32 or integer.
std::optional<float> real_attribute(const Attributes& attributes, std::string_view name);
std::optional<std::int32_t> integer_attribute(const Attributes& attributes, std::string_view name);

inline bool is_byte(DType d) {
  return d == DType::u8 || d == DType::i8;
}

// "input 0 is f16, the kernel reads f32" unless all present inputs and results are f32.
Status require_f32(const PrepareContext& context);

}  // namespace aoq::cpu
