#include "passes/rewrite/common.h"

#include <algorithm>
#include <new>

namespace aoq::rewrite {

Node* only_user(const Value* v) {
  return v->has_one_use() ? v->uses()[0].user : nullptr;
}

Node* input_node(const Node* n, std::size_t i, Op op) {
  const Value* v = n->input(i);
  return v != nullptr && v->def()->is(op) ? v->def() : nullptr;
}

bool scalar_constant(const Value* v, double* out) {
  const Tensor* t = constant_tensor(v);
  if (t == nullptr || t->element_count() != 1 || !(is_float(t->dtype()) || is_integer(t->dtype()))) return false;
  *out = load_as_double(t->dtype(), t->bytes().data(), 0);
  return true;
}

std::span<const float> float_constant(const Value* v) {
  const Tensor* t = constant_tensor(v);
  if (t == nullptr || t->dtype() != DType::f32) return {};
  return t->as<float>();
}

void replace_node(Graph& graph, Node* old, Value* replacement) {
  graph.replace_uses(old->output(), replacement);
  graph.erase(old);
}

void merge_origins(Node* to, const Node* from) {
  for (const std::string& name : from->origins) {
    if (std::find(to->origins.begin(), to->origins.end(), name) == to->origins.end()) to->origins.push_back(name);
  }
}

Tensor float_tensor(std::vector<std::int64_t> shape, std::span<const float> values) {
  Result<Tensor> t = Tensor::from_values<float>(DType::f32, std::move(shape), values);
  // Where memory ends this ends like a vector; whoever runs passes turns that into resource_limit.
  if (!t.ok() && t.status().code() == Code::resource_limit) throw std::bad_alloc();
  AOQ_CHECK(t.ok());
  return std::move(t).value();
}

bool is_one_of(const Node& n, std::initializer_list<Op> ops) {
  return std::find(ops.begin(), ops.end(), n.op()) != ops.end();
}

}  // namespace aoq::rewrite
