#include "backends/cpu/backend.h"

#include "backends/cpu/rows/conv_nodes.h"
#include "backends/cpu/rows/layouts.h"
#include "backends/cpu/rows/rows.h"
#include "runtime/reference_backend.h"

namespace aoq::cpu {
namespace {

constexpr KernelRow kRows[] = {
#define AOQ_KERNEL(op, row, isa, exactness, make) {Op::op, #row, Isa::isa, Exactness::exactness, make},
#include "backends/cpu/kernels.def"
#undef AOQ_KERNEL
};

// Empty when the row may be tried.
std::string_view ruled_out(const KernelRow& row, const PrepareContext& context) {
  if (row.isa > best_isa()) return "this machine lacks the instruction set";
  if (row.exactness == Exactness::inexact && context.deterministic) return "it is inexact, the run is deterministic";
  return {};
}

bool is_weighted(const Node& node) {
  return node.is(Op::conv) || node.is(Op::linear) || node.is(Op::qconv) || node.is(Op::qlinear);
}

}  // namespace

std::span<const KernelRow> kernel_rows() {
  return kRows;
}

Result<PreparedKernel> CpuBackend::prepare(const PrepareContext& context) const {
  PreparedKernel prepared;
  for (const KernelRow& row : kRows) {
    if (row.op != context.node.op()) continue;
    std::string_view reason = ruled_out(row, context);
    if (!reason.empty()) {
      prepared.refused.push_back({std::string(row.name), std::string(reason)});
      continue;
    }
    KernelResult kernel = row.make(context);
    if (!kernel.ok()) {
      if (kernel.status().code() != Code::unsupported) return std::move(kernel).status();
      prepared.refused.push_back({std::string(row.name), kernel.status().message()});
      continue;
    }
    prepared.kernel = std::move(kernel).value();
    prepared.row = row.name;
    prepared.inexact = row.exactness == Exactness::inexact;
    return prepared;
  }
  AOQ_ASSIGN(prepared.kernel, make_reference_kernel(context));
  prepared.row = "reference";
  return prepared;
}

Result<std::vector<std::byte>> CpuBackend::pack(const Tensor& plain, std::string_view layout) const {
  return pack_constant(plain, layout);
}

Result<Tensor> CpuBackend::unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                                  std::string_view layout) const {
  return unpack_constant(packed, dtype, shape, layout);
}

std::string CpuBackend::preferred_layout(const Node& node, std::size_t operand) const {
  if (operand != 1 || !is_weighted(node) || !check_conv_node(node).ok()) return {};
  const Type& weight = node.input(1)->type();
  if (weight.dtype != DType::i8 && weight.dtype != DType::f32) return {};
  std::vector<std::int64_t> shape;
  for (const Dim& d : weight.shape) {
    if (!d.is_constant()) return {};
    shape.push_back(d.constant());
  }
  bool has_groups = node.is(Op::conv) || node.is(Op::qconv);
  Result<ConvDims> dims = dims_of_weight(shape, has_groups ? node.attributes().integer("groups") : 1);
  if (!dims.ok()) return {};
  bool is_s8 = weight.dtype == DType::i8;
  if (is_depthwise(*dims)) return std::string(is_s8 ? kLayoutS8Depthwise : kLayoutF32Depthwise);
  return layout_name(is_s8 ? kLayoutS8 : kLayoutF32, dims->groups);
}

Status supports_integer(const Node& node) {
  bool has_row = false;
  for (const KernelRow& row : kRows) has_row = has_row || row.op == node.op();
  if (!has_row) return refuse("there is no integer kernel for {}", node.def().name);
  if (is_weighted(node)) AOQ_TRY(check_conv_node(node));
  if (node.is(Op::qavg_pool) && !node.attributes().boolean("channels_last")) {
    return refuse("the kernel reads channels last");
  }
  return {};
}

}  // namespace aoq::cpu
