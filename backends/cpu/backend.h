// The CPU backend: the rows of kernels.def, best first, ending in the reference of the op table.
#pragma once

#include "backends/cpu/kernel_table.h"
#include "ir/target.h"
#include "runtime/backend.h"

namespace aoq {

class CpuBackend : public Backend {
 public:
  // Uses rows up to `isa`, which this machine must have. Tests may hand in other rows.
  explicit CpuBackend(cpu::Isa isa = cpu::best_isa(), std::span<const cpu::KernelRow> kernels = cpu::kernel_rows(),
                      std::span<const cpu::LayoutRow> layouts = cpu::layout_rows())
      : isa_(isa), kernels_(kernels), layouts_(layouts) {}

  std::string_view name() const override { return "cpu"; }
  std::string_view isa() const override { return cpu::isa_name(isa_); }
  Result<PreparedKernel> prepare(const PrepareContext& context) const override;
  Result<std::vector<std::byte>> pack(const Tensor& plain, std::string_view layout) const override;
  Result<Tensor> unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                        std::string_view layout) const override;
  std::string preferred_layout(const Node& node, std::size_t operand, std::string_view chosen_row) const override;

  // prepare without the reference: where no row takes the node, the result has no kernel, only the refusals.
  Result<PreparedKernel> prepare_row(const PrepareContext& context) const;

 private:
  struct Layout {
    const cpu::LayoutRow* row;
    std::int64_t groups;
  };
  Result<Layout> layout(std::string_view layout_name) const;
  // True when the row takes the node; else the reason is among prepared.refused.
  Result<bool> take(const cpu::KernelRow& row, const PrepareContext& context, PreparedKernel& prepared) const;

  cpu::Isa isa_;
  std::span<const cpu::KernelRow> kernels_;
  std::span<const cpu::LayoutRow> layouts_;
};

// The version of the oneDNN that the backend would use, why it cannot be loaded, or nothing where it is not built in.
std::string onednn_version();

// What passes are told about the CPU: a node is supported when a row other than the reference takes it. Dimensions that
// are not known yet are tried at a few sizes.
class CpuTarget : public TargetInfo {
 public:
  explicit CpuTarget(CpuBackend backend = CpuBackend()) : backend_(std::move(backend)) {}
  std::string_view name() const override { return backend_.isa(); }
  Status supports(const Node& lowered) const override;

 private:
  CpuBackend backend_;
};

}  // namespace aoq
