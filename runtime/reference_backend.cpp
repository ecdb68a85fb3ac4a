#include "runtime/reference_backend.h"

#include <new>

namespace aoq {
namespace {

class ReferenceKernel : public Kernel {
 public:
  ReferenceKernel(const PrepareContext& context, std::vector<const std::byte*> constants)
      : op_(context.node.op()),
        reference_(context.node.def().reference),
        attributes_(context.attributes),
        inputs_(context.inputs.begin(), context.inputs.end()),
        outputs_(context.outputs.begin(), context.outputs.end()),
        constants_(std::move(constants)) {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const Value* v = context.node.input(i);
      const std::vector<std::int64_t>& shape = inputs_[i].shape;
      types_.push_back(
          {inputs_[i].dtype, {shape.begin(), shape.end()}, v != nullptr ? v->type().quantization : std::nullopt});
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      type_pointers_.push_back(context.node.input(i) ? &types_[i] : nullptr);
  }

  // The views live in scratch: a run allocates nothing of its own.
  std::uint64_t scratch_bytes() const override {
    return inputs_.size() * sizeof(TensorView) + outputs_.size() * sizeof(MutableTensorView);
  }

  Status run(const RunContext& context) const override {
    static_assert(std::is_trivially_destructible_v<TensorView> && std::is_trivially_destructible_v<MutableTensorView>);
    auto* inputs = reinterpret_cast<TensorView*>(context.scratch);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::byte* data = constants_[i] != nullptr ? constants_[i] : context.inputs[i];
      new (inputs + i) TensorView{inputs_[i].dtype, inputs_[i].shape, data};
    }
    auto* outputs = reinterpret_cast<MutableTensorView*>(inputs + inputs_.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      new (outputs + i) MutableTensorView{outputs_[i].dtype, outputs_[i].shape, context.outputs[i]};
    }
    return reference_(
        EvalContext{op_, {inputs, inputs_.size()}, {outputs, outputs_.size()}, attributes_, type_pointers_});
  }

 private:
  Op op_;
  Status (*reference_)(const EvalContext&);
  Attributes attributes_;
  std::vector<ConcreteType> inputs_, outputs_;
  std::vector<Type> types_;
  std::vector<const Type*> type_pointers_;
  std::vector<const std::byte*> constants_;  // plain bytes of packed operands, else null
};

}  // namespace

Result<std::unique_ptr<Kernel>> make_reference_kernel(const PrepareContext& context) {
  const OpDef& def = context.node.def();
  if (def.reference == nullptr) return error(Code::unsupported, "{} has no reference implementation", def.name);
  std::vector<const std::byte*> constants;
  for (const Value* v : context.node.inputs()) {
    constants.push_back(nullptr);
    if (v == nullptr || !v->def()->is(Op::packed_constant)) continue;
    AOQ_ASSIGN(std::span<const std::byte> plain, context.store.packed(*v, ""));
    constants.back() = plain.data();
  }
  return std::unique_ptr<Kernel>(std::make_unique<ReferenceKernel>(context, std::move(constants)));
}

Result<PreparedKernel> ReferenceBackend::prepare(const PrepareContext& context) const {
  AOQ_ASSIGN(std::unique_ptr<Kernel> kernel, make_reference_kernel(context));
  return PreparedKernel{std::move(kernel), "reference", false, {}};
}

Result<std::vector<std::byte>> ReferenceBackend::pack(const Tensor&, std::string_view layout) const {
  return error(Code::unsupported, "the reference has no layout \"{}\"", layout);
}

Result<Tensor> ReferenceBackend::unpack(std::span<const std::byte>, DType, std::span<const std::int64_t>,
                                        std::string_view layout) const {
  return error(Code::unsupported, "the reference has no layout \"{}\"", layout);
}

std::string ReferenceBackend::preferred_layout(const Node&, std::size_t, std::string_view) const {
  return {};
}

}  // namespace aoq
