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

struct LayoutRow {
  std::string_view name;
  Result<std::vector<std::byte>> (*pack)(const Tensor&) = nullptr;
  Result<Tensor> (*unpack)(std::span<const std::byte>, DType, std::span<const std::int64_t>) = nullptr;
};

std::span<const KernelRow> kernel_rows();
std::span<const LayoutRow> layout_rows();

}  // namespace aoq::cpu
