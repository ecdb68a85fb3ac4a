#include "backends/cpu/rows/row.h"

#include <cstdint>

#include "runtime/computed_constant.h"

namespace aoq::cpu {
namespace {

// About 10 us: below this waking or even signalling another thread costs more than it saves.
constexpr std::int64_t kWorkerCost = 32 * 1024;

}  // namespace

Split split_work(std::int64_t units, std::int64_t unit_cost, const PrepareContext& context) {
  if (units <= 0) return {};
  // In double: costs are products of dimensions and only their magnitude counts.
  double worth = static_cast<double>(units) * static_cast<double>(unit_cost) / static_cast<double>(kWorkerCost);
  double most = std::min<double>(context.workers, static_cast<double>(units));
  return {units, std::max(1, static_cast<int>(std::min(worth, most)))};
}

Split split_elements(std::int64_t elements, std::int64_t element_cost, const PrepareContext& context) {
  return split_work((elements + kBlockElements - 1) / kBlockElements, element_cost * kBlockElements, context);
}

std::int64_t element_count(std::span<const std::int64_t> shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return n;
}

std::int64_t element_bytes(DType dtype) {
  int bits = dtype_info(dtype).bits;
  return bits % 8 == 0 ? bits / 8 : 0;
}

std::int64_t normalized_axis(std::int64_t axis, std::size_t rank) {
  return axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
}

const Tensor* constant_input(const PrepareContext& context, std::size_t i) {
  return constant_tensor(context.node.input(i));
}

bool is_weight(const Value* value) {
  if (value == nullptr) return false;
  const Node& def = *value->def();
  return def.is(Op::constant) || def.is(Op::packed_constant) || is_computed_constant(def);
}

Result<std::vector<float>> float_constants(const PrepareContext& context, std::size_t i, std::int64_t size) {
  if (context.node.input(i) == nullptr) return std::vector<float>();
  const char* name = context.node.def().inputs[i].name;
  const Tensor* tensor = constant_input(context, i);
  if (tensor == nullptr) return refuse("{} is not a constant", name);
  if (tensor->dtype() != DType::f32 || tensor->element_count() != size) {
    return refuse("{} is {}{}, the kernel reads f32 with {} elements", name, dtype_name(tensor->dtype()),
                  shape_to_string(tensor->shape()), size);
  }
  std::span<const float> values = tensor->as<float>();
  return std::vector<float>(values.begin(), values.end());
}

Result<const std::byte*> packed_input(const PrepareContext& context, std::size_t i, std::string_view layout,
                                      std::int64_t bytes) {
  AOQ_ASSIGN(std::span<const std::byte> packed, context.store.packed(*context.node.input(i), layout));
  if (static_cast<std::int64_t>(packed.size()) != bytes) {
    return error(Code::invalid_model, "{} in layout {} has {} bytes, expected {}", context.node.def().inputs[i].name,
                 layout, packed.size(), bytes);
  }
  if (reinterpret_cast<std::uintptr_t>(packed.data()) % 64 != 0) {
    return error(Code::internal, "packed constant in layout {} is not 64-byte aligned", layout);
  }
  return packed.data();
}

std::optional<float> real_attribute(const Attributes& attributes, std::string_view name) {
  if (!attributes.has(name)) return std::nullopt;
  return static_cast<float>(attributes.real(name));
}

std::optional<std::int32_t> integer_attribute(const Attributes& attributes, std::string_view name) {
  if (!attributes.has(name)) return std::nullopt;
  return static_cast<std::int32_t>(attributes.integer(name));
}

Status require_f32(const PrepareContext& context) {
  for (std::size_t i = 0; i < context.inputs.size(); ++i) {
    if (context.node.input(i) == nullptr || context.inputs[i].dtype == DType::f32) continue;
    return refuse("input {} is {}, the kernel reads f32", i, dtype_name(context.inputs[i].dtype));
  }
  for (const ConcreteType& type : context.outputs) {
    if (type.dtype != DType::f32) return refuse("the result is {}, the kernel writes f32", dtype_name(type.dtype));
  }
  return {};
}

}  // namespace aoq::cpu
