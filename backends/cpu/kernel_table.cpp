#include "backends/cpu/kernel_table.h"

#include <iterator>
#include <memory>
#include <vector>

namespace aoq::cpu {

#define AOQ_KERNEL(op, name, isa, exactness, make) Result<std::unique_ptr<Kernel>> make(const PrepareContext&);
#include "backends/cpu/kernels.def"
#undef AOQ_KERNEL

#define AOQ_LAYOUT(name, pack, unpack)                                     \
  Result<std::vector<std::byte>> pack(const Tensor&, std::int64_t groups); \
  Result<Tensor> unpack(const PackedConstant&);
#include "backends/cpu/layouts.def"
#undef AOQ_LAYOUT

namespace {

// Each ends in an empty row, as an array needs one.
constexpr KernelRow kKernels[] = {
#define AOQ_KERNEL(op, name, isa, exactness, make) {Op::op, name, Isa::isa, Exactness::exactness, make},
#include "backends/cpu/kernels.def"
#undef AOQ_KERNEL
    {}};

constexpr LayoutRow kLayouts[] = {
#define AOQ_LAYOUT(name, pack, unpack) {name, pack, unpack},
#include "backends/cpu/layouts.def"
#undef AOQ_LAYOUT
    {}};

// Backends keep spans of the rows they were made with, so every registration makes a new list and keeps the old ones.
std::vector<std::unique_ptr<const std::vector<KernelRow>>>& extended_tables() {
  static std::vector<std::unique_ptr<const std::vector<KernelRow>>> tables;
  return tables;
}

}  // namespace

std::span<const KernelRow> kernel_rows() {
  if (extended_tables().empty()) return {kKernels, std::size(kKernels) - 1};
  return *extended_tables().back();
}

Status register_kernel(const KernelRow& row) {
  if (row.name.empty() || row.make == nullptr) {
    return error(Code::invalid_argument, "a kernel row needs a name and make");
  }
  auto table = std::make_unique<std::vector<KernelRow>>(1, row);
  std::span<const KernelRow> old = kernel_rows();
  table->insert(table->end(), old.begin(), old.end());
  extended_tables().push_back(std::move(table));
  return {};
}

std::span<const LayoutRow> layout_rows() {
  return {kLayouts, std::size(kLayouts) - 1};
}

}  // namespace aoq::cpu
