#include "ir/interpreter.h"

#include <algorithm>
#include <unordered_map>

#include "ir/bind.h"

namespace aoq {

namespace {

// The reading end of tensors without elements: present inputs have data.
alignas(64) constexpr std::byte kNothing[64] = {};

Type concrete_type(const Tensor& tensor, const Type& declared) {
  Type type{tensor.dtype(), {}, declared.quantization};
  for (std::int64_t d : tensor.shape()) type.shape.emplace_back(d);
  return type;
}

Result<Attributes> substitute(const Attributes& attributes, const SymbolValues& symbols) {
  Attributes out = attributes;
  for (const auto& [name, value] : attributes) {
    const auto* dims = std::get_if<std::vector<Dim>>(&value);
    if (dims == nullptr || all_constant(*dims)) continue;
    std::vector<Dim> numbers;
    for (const Dim& d : *dims) {
      AOQ_ASSIGN(std::int64_t number, d.evaluate(symbols));
      numbers.emplace_back(number);
    }
    out.set(name, std::move(numbers));
  }
  return out;
}

// What does not fit concrete shapes is the data's fault: the model was fine with symbols.
Status as_data_error(const Status& status) {
  return status.code() == Code::invalid_model ? Status(Code::invalid_data, status.message()) : status;
}

Result<std::vector<Tensor>> make_outputs(const std::vector<Type>& types) {
  std::vector<Tensor> outputs;
  for (const Type& t : types) {
    AOQ_ASSIGN(std::vector<std::int64_t> shape, evaluate(t.shape, {}));
    AOQ_ASSIGN(Tensor tensor, Tensor::make(t.dtype, std::move(shape)));
    outputs.push_back(std::move(tensor));
  }
  return outputs;
}

Result<std::vector<Tensor>> evaluate_operands(const Node& node, std::span<const Tensor* const> operands,
                                              const SymbolValues& symbols) {
  AOQ_CHECK(!node.def().has_trait(kStructural));
  AOQ_ASSIGN(Attributes attributes, substitute(node.attributes(), symbols));
  std::vector<Type> types(operands.size());
  std::vector<const Type*> type_pointers(operands.size());
  std::vector<TensorView> views(operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i] == nullptr) continue;
    types[i] = concrete_type(*operands[i], node.input(i)->type());
    type_pointers[i] = &types[i];
    views[i] = operands[i]->view();
    if (views[i].data == nullptr) views[i].data = kNothing;
  }
  Result<std::vector<Type>> results = node.def().infer({node.op(), type_pointers, attributes});
  if (!results.ok()) return as_data_error(results.status());
  AOQ_ASSIGN(std::vector<Tensor> outputs, make_outputs(*results));
  std::vector<MutableTensorView> output_views;
  for (Tensor& t : outputs) output_views.push_back(t.mutable_view());
  AOQ_TRY(node.def().reference({node.op(), views, output_views, attributes, type_pointers}));
  return outputs;
}

class ReferenceExecutable : public Executable {
 public:
  explicit ReferenceExecutable(const Graph& graph) : graph_(graph) {
    for (const Node* n : graph.nodes()) {
      for (const Value* v : n->inputs()) {
        if (v != nullptr) last_user_[v] = n;
      }
    }
  }

  Result<std::vector<Tensor>> run(std::span<const Tensor> inputs, const Tap& tap) override {
    AOQ_ASSIGN(symbols_, bind_symbols(graph_, inputs));
    values_.clear();
    std::size_t next_input = 0;
    for (const Node* n : graph_.nodes()) {
      if (n->is(Op::output)) break;
      std::vector<Tensor> results;
      if (n->is(Op::input)) {
        results.push_back(inputs[next_input++]);
      } else if (n->is(Op::constant)) {
        results.push_back(n->attributes().tensor("value"));
      } else {
        Result<std::vector<Tensor>> evaluated = evaluate_operands(*n, operands(*n), symbols_);
        if (!evaluated.ok()) return std::move(evaluated).status().with_context(describe(*n));
        results = std::move(evaluated).value();
      }
      AOQ_TRY(keep(*n, std::move(results), tap));
    }
    std::vector<Tensor> outputs;
    for (const Tensor* t : operands(*graph_.output_node())) outputs.push_back(*t);
    values_.clear();
    return outputs;
  }

 private:
  std::vector<const Tensor*> operands(const Node& node) const {
    std::vector<const Tensor*> out;
    for (const Value* v : node.inputs()) out.push_back(v == nullptr ? nullptr : &values_.at(v));
    return out;
  }

  Status keep(const Node& node, std::vector<Tensor> results, const Tap& tap) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Value* v = node.output(i);
      bool is_tapped = tap.see && std::find(tap.values.begin(), tap.values.end(), v) != tap.values.end();
      if (is_tapped) {
        TensorView view = results[i].view();
        if (view.data == nullptr) view.data = kNothing;
        AOQ_TRY(tap.see(*v, view));
      }
      if (last_user_.contains(v)) values_.insert_or_assign(v, std::move(results[i]));
    }
    for (const Value* v : node.inputs()) {
      if (v != nullptr && last_user_.at(v) == &node) values_.erase(v);
    }
    return {};
  }

  const Graph& graph_;
  std::unordered_map<const Value*, const Node*> last_user_;
  std::unordered_map<const Value*, Tensor> values_;
  SymbolValues symbols_;
};

}  // namespace

Result<std::unique_ptr<Executable>> ReferenceExecutor::prepare(const Graph& graph) const {
  if (graph.output_node() == nullptr) return error(Code::invalid_argument, "graph {} has no output node", graph.name);
  return std::unique_ptr<Executable>(std::make_unique<ReferenceExecutable>(graph));
}

Result<std::vector<Tensor>> evaluate_node(const Node& node, std::span<const Tensor> inputs,
                                          const SymbolValues& symbols) {
  if (inputs.size() != node.inputs().size()) {
    return error(Code::invalid_argument, "{} has {} operands, {} tensors are given", describe(node),
                 node.inputs().size(), inputs.size());
  }
  std::vector<const Tensor*> operands;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    operands.push_back(node.inputs()[i] == nullptr ? nullptr : &inputs[i]);
    if (operands[i] != nullptr && inputs[i].dtype() != node.input(i)->type().dtype) {
      return error(Code::invalid_argument, "{}: operand {} is {}, expected {}", describe(node), i,
                   dtype_name(inputs[i].dtype()), dtype_name(node.input(i)->type().dtype));
    }
  }
  Result<std::vector<Tensor>> results = evaluate_operands(node, operands, symbols);
  if (!results.ok()) return std::move(results).status().with_context(describe(node));
  return results;
}

}  // namespace aoq
