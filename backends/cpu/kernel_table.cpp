#include "backends/cpu/kernel_table.h"

#include <iterator>

namespace aoq::cpu {

#define AOQ_KERNEL(op, name, isa, exactness, make) Result<std::unique_ptr<Kernel>> make(const PrepareContext&);
#include "backends/cpu/kernels.def"
#undef AOQ_KERNEL

#define AOQ_LAYOUT(name, pack, unpack)                                    \
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

}  // namespace

std::span<const KernelRow> kernel_rows() { return {kKernels, std::size(kKernels) - 1}; }
std::span<const LayoutRow> layout_rows() { return {kLayouts, std::size(kLayouts) - 1}; }

}  // namespace aoq::cpu
