// The CPU backend: the kernel table (kernels.def) behind the Backend interface. Stateless and thread-safe.
#pragma once

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/rows/row.h"
#include "runtime/backend.h"

namespace aoq::cpu {

enum class Exactness : std::uint8_t { exact, inexact };

// One line of kernels.def.
struct KernelRow {
  Op op;
  std::string_view name;
  Isa isa;
  Exactness exactness;
  MakeKernel make;
};
// In the table's order.
std::span<const KernelRow> kernel_rows();

class CpuBackend : public Backend {
 public:
  std::string_view name() const override { return "cpu"; }
  std::string_view isa() const override { return isa_name(best_isa()); }
  Result<PreparedKernel> prepare(const PrepareContext& context) const override;
  Result<std::vector<std::byte>> pack(const Tensor& plain, std::string_view layout) const override;
  Result<Tensor> unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                        std::string_view layout) const override;
  std::string preferred_layout(const Node& node, std::size_t operand) const override;
};

// Whether an integer node (qconv, qlinear, qadd, ...) has a row that computes on codes; unsupported with the reason when
// only the reference would take it. Needs no shapes.
Status supports_integer(const Node& node);

}  // namespace aoq::cpu
