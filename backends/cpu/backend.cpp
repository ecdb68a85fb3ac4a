#include "backends/cpu/backend.h"

#include <charconv>
#include <map>

#if defined(AOQ_ONEDNN)
#include "backends/cpu/onednn_library.h"
#endif
#include "ir/bind.h"
#include "runtime/computed_constant.h"
#include "runtime/reference_backend.h"

namespace aoq {
namespace {

// Packs for one question and forgets; remembers which layout was asked for.
class TrialStore : public PackedStore {
 public:
  explicit TrialStore(const CpuBackend& backend) : backend_(backend) {}

  Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) override {
    layouts_[&constant] = layout;
    AOQ_ASSIGN(Tensor plain, plain_of(constant));
    if (layout.empty()) {
      tensors_.push_back(std::move(plain));
    } else {
      AOQ_ASSIGN(std::vector<std::byte> bytes, backend_.pack(plain, layout));
      AOQ_ASSIGN(Tensor kept, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes));
      tensors_.push_back(std::move(kept));
    }
    return tensors_.back().bytes();
  }

  std::string layout_of(const Value* value) const {
    auto it = layouts_.find(value);
    return it == layouts_.end() ? std::string() : it->second;
  }

 private:
  Result<Tensor> plain_of(const Value& constant) const {
    const Node& node = *constant.def();
    const Attributes& a = node.attributes();
    if (node.is(Op::constant)) return a.tensor("value");
    if (is_computed_constant(node)) return compute_constant(node);
    if (!node.is(Op::packed_constant)) return error(Code::unsupported, "operand of {} is no constant", describe(node));
    return backend_.unpack(a.tensor("value").bytes(), a.dtype("dtype"), a.integers("shape"), a.string("layout"));
  }

  const CpuBackend& backend_;
  std::map<const Value*, std::string> layouts_;
  std::vector<Tensor> tensors_;  // copies of a Tensor share its bytes, so growing keeps spans valid
};

Result<std::vector<ConcreteType>> concrete(std::span<const Value* const> values, const SymbolValues& symbols) {
  std::vector<ConcreteType> out;
  for (const Value* v : values) {
    out.emplace_back();
    if (v == nullptr) continue;
    out.back().dtype = v->type().dtype;
    AOQ_ASSIGN(out.back().shape, evaluate(v->type().shape, symbols));
  }
  return out;
}

std::vector<const Value*> results_of(const Node& node) {
  std::vector<const Value*> out;
  for (std::size_t i = 0; i < node.output_count(); ++i) out.push_back(node.output(i));
  return out;
}

// Every symbol of the node at the same value.
SymbolValues symbols_at(const Node& node, std::int64_t value) {
  std::vector<std::string> names;
  for (const Value* v : node.inputs()) {
    for (std::size_t i = 0; v != nullptr && i < v->type().shape.size(); ++i) v->type().shape[i].collect_symbols(names);
  }
  for (const Value* v : results_of(node)) {
    for (const Dim& d : v->type().shape) d.collect_symbols(names);
  }
  SymbolValues symbols;
  for (const std::string& n : names) symbols[n] = value;
  return symbols;
}

struct Trial {
  const Node& node;
  std::string_view chosen_row;
};

Result<PreparedKernel> try_row(const CpuBackend& backend, const Trial& trial, const SymbolValues& symbols,
                               PackedStore& store) {
  const Node& node = trial.node;
  const std::vector<const Value*> operands(node.inputs().begin(), node.inputs().end());
  AOQ_ASSIGN(std::vector<ConcreteType> inputs, concrete(operands, symbols));
  AOQ_ASSIGN(std::vector<ConcreteType> outputs, concrete(results_of(node), symbols));
  AOQ_ASSIGN(Attributes attributes, substitute(node.attributes(), symbols));
  return backend.prepare_row({node, inputs, outputs, attributes, store, 1, false, trial.chosen_row});
}

// At the first size at which the node makes sense.
Result<PreparedKernel> try_row_at_some_size(const CpuBackend& backend, const Trial& trial, PackedStore& store) {
  Result<PreparedKernel> last = error(Code::unsupported, "no dimensions were tried");
  for (std::int64_t size : {16, 224, 1}) {
    last = try_row(backend, trial, symbols_at(trial.node, size), store);
    if (last.ok() || last.status().code() == Code::unsupported) break;
  }
  return last;
}

}  // namespace

Result<bool> CpuBackend::take(const cpu::KernelRow& row, const PrepareContext& context,
                              PreparedKernel& prepared) const {
  auto refuse = [&](std::string reason) {
    if (row.name == context.chosen_row) reason += " (it was chosen when the model was tuned)";
    prepared.refused.push_back({std::string(row.name), std::move(reason)});
    return false;
  };
  if (row.isa > isa_) return refuse(fmt::format("needs {}, this is {}", cpu::isa_name(row.isa), cpu::isa_name(isa_)));
  if (row.exactness == cpu::Exactness::inexact && context.deterministic) {
    return refuse("is inexact, and only deterministic kernels were asked for");
  }
  Result<std::unique_ptr<Kernel>> kernel = row.make(context);
  if (!kernel.ok()) {
    if (kernel.status().code() != Code::unsupported) return std::move(kernel).status().with_context(row.name);
    return refuse(std::string(kernel.status().message()));
  }
  prepared.kernel = std::move(kernel).value();
  prepared.row = row.name;
  prepared.inexact = row.exactness == cpu::Exactness::inexact;
  return true;
}

Result<PreparedKernel> CpuBackend::prepare_row(const PrepareContext& context) const {
  PreparedKernel prepared;
  bool has_chosen = context.chosen_row.empty();
  for (const cpu::KernelRow& row : kernels_) {
    if (row.op != context.node.op() || row.name != context.chosen_row) continue;
    has_chosen = true;
    AOQ_ASSIGN(const bool taken, take(row, context, prepared));
    if (taken) return prepared;
  }
  if (!has_chosen) {
    prepared.refused.push_back(
        {std::string(context.chosen_row), "is not in this build (it was chosen when the model was tuned)"});
  }
  for (const cpu::KernelRow& row : kernels_) {
    if (row.op != context.node.op() || row.name == context.chosen_row) continue;
    AOQ_ASSIGN(const bool taken, take(row, context, prepared));
    if (taken) return prepared;
  }
  return prepared;
}

Result<PreparedKernel> CpuBackend::prepare(const PrepareContext& context) const {
  AOQ_ASSIGN(PreparedKernel prepared, prepare_row(context));
  if (prepared.kernel != nullptr) return prepared;
  AOQ_ASSIGN(prepared.kernel, make_reference_kernel(context));
  prepared.row = "reference";
  return prepared;
}

Result<CpuBackend::Layout> CpuBackend::layout(std::string_view layout_name) const {
  std::string_view base = layout_name;
  std::int64_t groups = 1;
  if (std::size_t suffix = layout_name.find(".g"); suffix != std::string_view::npos) {
    base = layout_name.substr(0, suffix);
    const char* end = layout_name.data() + layout_name.size();
    auto [stop, status] = std::from_chars(layout_name.data() + suffix + 2, end, groups);
    if (stop != end || status != std::errc() || groups < 2) base = {};
  }
  for (const cpu::LayoutRow& row : layouts_) {
    if (row.name == base) return Layout{&row, groups};
  }
  return error(Code::unsupported, "the CPU backend has no layout \"{}\"", layout_name);
}

Result<std::vector<std::byte>> CpuBackend::pack(const Tensor& plain, std::string_view layout_name) const {
  AOQ_ASSIGN(Layout found, layout(layout_name));
  return found.row->pack(plain, found.groups);
}

Result<Tensor> CpuBackend::unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                                  std::string_view layout_name) const {
  AOQ_ASSIGN(Layout found, layout(layout_name));
  return found.row->unpack({packed, dtype, shape, found.groups});
}

std::string CpuBackend::preferred_layout(const Node& node, std::size_t operand, std::string_view chosen_row) const {
  TrialStore store(*this);
  Result<PreparedKernel> prepared = try_row_at_some_size(*this, {node, chosen_row}, store);
  return prepared.ok() && prepared->kernel != nullptr ? store.layout_of(node.input(operand)) : std::string();
}

Status CpuTarget::supports(const Node& lowered) const {
  TrialStore store(backend_);
  AOQ_ASSIGN(PreparedKernel prepared, try_row_at_some_size(backend_, {lowered, {}}, store));
  if (prepared.kernel != nullptr) return {};
  std::string why;
  for (const Refusal& r : prepared.refused) why += (why.empty() ? "" : "; ") + r.row + ": " + r.reason;
  return error(Code::unsupported, "{}",
               why.empty() ? fmt::format("{} has no kernel but the reference", lowered.def().name) : why);
}

std::string onednn_version() {
#if defined(AOQ_ONEDNN)
  return cpu::onednn_version();
#else
  return "";
#endif
}

}  // namespace aoq
