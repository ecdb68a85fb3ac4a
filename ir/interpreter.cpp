#include "ir/interpreter.h"

#include <algorithm>
#include <unordered_map>

#include "ir/bind.h"

namespace aoq {

namespace {

// A present input without elements still has an address: null means absent.
constexpr std::byte kNothing[8] = {};

TensorView present(const Tensor& t) {
  TensorView v = t.view();
  if (v.data == nullptr) v.data = kNothing;
  return v;
}

Type concrete(const Type& type, const std::vector<std::int64_t>& shape) {
  return Type{type.dtype, {shape.begin(), shape.end()}, type.quantization};
}

// Inputs null where absent.
Result<std::vector<Tensor>> evaluate(const Node& node, std::span<const Tensor* const> inputs,
                                     const SymbolValues& symbols) {
  const OpDef& def = node.def();
  if (def.reference == nullptr) return error(Code::unsupported, "the op has no reference implementation");
  AOQ_ASSIGN(Attributes attributes, substitute(node.attributes(), symbols));
  std::vector<TensorView> views(inputs.size());
  std::vector<Type> types(inputs.size());
  std::vector<const Type*> type_pointers(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    views[i] = present(*inputs[i]);
    types[i] = concrete(node.input(i)->type(), inputs[i]->shape());
    type_pointers[i] = &types[i];
  }
  // The graph was verified: what does not fit now are the shapes of this run.
  Result<std::vector<Type>> inferred = def.infer(InferContext{node.op(), type_pointers, attributes});
  if (!inferred.ok()) return Status(Code::invalid_data, inferred.status().message());
  const std::vector<Type>& results = *inferred;
  std::vector<Tensor> outputs;
  for (const Type& t : results) {
    AOQ_ASSIGN(std::vector<std::int64_t> shape, evaluate(t.shape, symbols));
    AOQ_ASSIGN(Tensor out, Tensor::make(t.dtype, std::move(shape)));
    outputs.push_back(std::move(out));
  }
  std::vector<MutableTensorView> output_views;
  for (Tensor& t : outputs) output_views.push_back(t.mutable_view());
  AOQ_TRY(def.reference(EvalContext{node.op(), views, output_views, attributes, type_pointers}));
  return outputs;
}

class ReferenceExecutable : public Executable {
 public:
  explicit ReferenceExecutable(const Graph& graph) : graph_(graph) {
    int at = 0;
    for (const Node* n : graph.nodes()) {
      for (const Value* v : n->inputs()) {
        if (v != nullptr) last_use_[v] = at;
      }
      ++at;
    }
  }

  Result<std::vector<Tensor>> run(std::span<const Tensor> inputs, const Tap& tap) override {
    AOQ_ASSIGN(SymbolValues symbols, bind_symbols(graph_, inputs));
    std::unordered_map<const Value*, Tensor> values;
    std::size_t next_input = 0;
    int at = 0;
    for (const Node* n : graph_.nodes()) {
      if (n->is(Op::output)) return results(*n, values);
      if (n->is(Op::input)) {
        values.emplace(n->output(), inputs[next_input++]);
      } else if (n->is(Op::constant)) {
        values.emplace(n->output(), n->attributes().tensor("value"));
      } else {
        Status s = run_node(*n, values, symbols);
        if (!s.ok()) return std::move(s).with_context(describe(*n));
      }
      AOQ_TRY(show(*n, values, tap));
      release(*n, values, at++);
    }
    return error(Code::invalid_model, "graph has no output node");
  }

 private:
  static Result<std::vector<Tensor>> results(const Node& n, std::unordered_map<const Value*, Tensor>& values) {
    std::vector<Tensor> out;
    for (const Value* v : n.inputs()) out.push_back(values.at(v));
    return out;
  }

  static Status run_node(const Node& n, std::unordered_map<const Value*, Tensor>& values, const SymbolValues& symbols) {
    std::vector<const Tensor*> inputs;
    for (const Value* v : n.inputs()) inputs.push_back(v != nullptr ? &values.at(v) : nullptr);
    AOQ_ASSIGN(std::vector<Tensor> outputs, evaluate(n, inputs, symbols));
    for (std::size_t i = 0; i < outputs.size(); ++i) values.emplace(n.output(i), std::move(outputs[i]));
    return {};
  }

  static Status show(const Node& n, const std::unordered_map<const Value*, Tensor>& values, const Tap& tap) {
    if (!tap.callback) return {};
    for (std::size_t i = 0; i < n.output_count(); ++i) {
      const Value* v = n.output(i);
      if (std::find(tap.values.begin(), tap.values.end(), v) == tap.values.end()) continue;
      AOQ_TRY(tap.callback(*v, present(values.at(v))));
    }
    return {};
  }

  void release(const Node& n, std::unordered_map<const Value*, Tensor>& values, int at) const {
    for (const Value* v : n.inputs()) {
      if (v != nullptr && last_use_.at(v) == at) values.erase(v);
    }
  }

  const Graph& graph_;
  std::unordered_map<const Value*, int> last_use_;
};

}  // namespace

Result<std::unique_ptr<Executable>> ReferenceExecutor::prepare(const Graph& graph) {
  if (graph.output_node() == nullptr) return error(Code::invalid_argument, "the graph has no output node");
  return std::unique_ptr<Executable>(std::make_unique<ReferenceExecutable>(graph));
}

Result<std::vector<Tensor>> evaluate_node(const Node& node, std::span<const Tensor> inputs) {
  std::vector<const Tensor*> pointers;
  for (std::size_t i = 0; i < inputs.size(); ++i) pointers.push_back(node.input(i) != nullptr ? &inputs[i] : nullptr);
  return evaluate(node, pointers, {});
}

std::string folded_label(const Node& node) {
  const Value* source = node.inputs().empty() ? nullptr : node.input(0);
  const bool moves_one = node.def().has_trait(kDataMovement) && node.inputs().size() == 1 && node.output_count() == 1;
  if (!moves_one || source == nullptr) return node.label();
  if (source->type().shape.size() < 2 || source->def()->origins.empty()) return node.label();
  // Every element is still there: a slice or a repeated tensor is something else.
  if (product(source->type().shape) != product(node.output()->type().shape)) return node.label();
  return source->def()->label();
}

}  // namespace aoq
