// The reference as kernels: what the op table itself computes. Slow, single-threaded, and right by definition.
#pragma once

#include "runtime/backend.h"

namespace aoq {

// The last row of every backend. unsupported for ops without a reference.
Result<std::unique_ptr<Kernel>> make_reference_kernel(const PrepareContext& context);

// A backend with nothing else, for tests and for comparing. Reads no packed layouts.
class ReferenceBackend : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  std::string_view isa() const override { return "reference"; }
  Result<PreparedKernel> prepare(const PrepareContext& context) const override;
  Result<std::vector<std::byte>> pack(const Tensor& plain, std::string_view layout) const override;
  Result<Tensor> unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                        std::string_view layout) const override;
  std::string preferred_layout(const Node& node, std::size_t operand, std::string_view chosen_row) const override;
};

}  // namespace aoq
