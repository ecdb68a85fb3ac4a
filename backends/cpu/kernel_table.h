// The tables of kernels.def and layouts.def.
#pragma once

#include <span>
#include <string_view>

#include "backends/cpu/cpu_features.h"
#include "runtime/backend.h"

namespace aoq::cpu {

enum class Exactness : std::uint8_t { exact, inexact };

struct KernelRow {
  Op op{};
  std::string_view name;
  Isa isa = Isa::reference;
  Exactness exactness = Exactness::exact;
  Result<std::unique_ptr<Kernel>> (*make)(const PrepareContext&) = nullptr;
};

// A constant in a layout, with its logical type and shape.
struct PackedConstant {
  std::span<const std::byte> bytes;
  DType dtype = DType::f32;
  std::span<const std::int64_t> shape;
  std::int64_t groups = 1;
};

struct LayoutRow {
  std::string_view name;
  Result<std::vector<std::byte>> (*pack)(const Tensor&, std::int64_t groups) = nullptr;
  Result<Tensor> (*unpack)(const PackedConstant&) = nullptr;
};

// The rows that the program registered, newest first, then those of kernels.def.
std::span<const KernelRow> kernel_rows();
// Adds a row before all others, for backends made from then on. invalid_argument when something is missing. Not
// thread-safe: register before other threads use the backend.
Status register_kernel(const KernelRow& row);
std::span<const LayoutRow> layout_rows();

}  // namespace aoq::cpu
