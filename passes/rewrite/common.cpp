#include "passes/rewrite/common.h"

#include <algorithm>
#include <new>

namespace aoq::rewrite {
namespace {

// The position of the output channel, from the right: 1 for the last dimension.
std::size_t channel_from_right(const Node& n) {
  if (n.is(Op::linear) || n.attributes().boolean("channels_last")) return 1;
  return static_cast<std::size_t>(n.output()->type().rank()) - 1;
}

}  // namespace

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

bool takes_bias(const Node& n) {
  if (!is_one_of(n, {Op::conv, Op::linear}) || n.input(3) != nullptr) return false;
  if (n.attributes().string("activation") != "none") return false;
  return n.input(2) == nullptr || !float_constant(n.input(2)).empty();
}

std::vector<float> per_output_channel(const Node& n, const Value* constant) {
  std::span<const float> data = float_constant(constant);
  const Tensor* t = constant_tensor(constant);
  const std::vector<Dim>& weight = n.input(1)->type().shape;
  if (data.empty() || !weight[0].is_constant()) return {};
  auto channels = static_cast<std::size_t>(weight[0].constant());
  if (t->shape().size() > n.output()->type().shape.size()) return {};
  if (data.size() == 1) return std::vector<float>(channels, data[0]);
  std::size_t from_right = channel_from_right(n);
  if (data.size() != channels || t->shape().size() < from_right) return {};
  if (t->shape()[t->shape().size() - from_right] != static_cast<std::int64_t>(channels)) return {};
  return {data.begin(), data.end()};
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

Result<Node*> node_beside(Graph& graph, const Node& n, Op op, std::vector<Value*> inputs, Node* before,
                          Attributes attributes) {
  AOQ_ASSIGN(Node * made, graph.create_like(n, op, std::move(inputs), std::move(attributes), before));
  made->requested.clear();
  made->reason = "part of an integer op whose result is float";
  return made;
}

Result<Node*> split_activation(Graph& graph, const Node& n, Node* x, Node* before) {
  const Attributes& a = n.attributes();
  std::string name = a.string("activation");
  if (name == "none") return x;
  Attributes attributes;
  if (name == "clamp") {
    attributes = {{"min", a.real("activation_min")}, {"max", a.real("activation_max")}};
  } else if (name == "hardsigmoid") {
    attributes = {{"alpha", a.real("activation_min")}, {"beta", a.real("activation_max")}};
  } else if (name == "leaky_relu") {
    attributes = {{"alpha", a.real("activation_min")}};
  } else if (name == "gelu_tanh") {
    name = "gelu";
    attributes = {{"approximate", std::string("tanh")}};
  }
  const std::optional<Op> op = op_from_name(name);
  if (!op) return error(Code::internal, "no op is named like the activation {}", name);
  return node_beside(graph, n, *op, {x->output()}, before, std::move(attributes));
}

bool read_scale(const Node& n, StaticScale* out) {
  const Attribute* scale = n.attributes().find("scale");
  if (scale == nullptr || n.inputs().size() != 1) return false;
  out->scale = static_cast<float>(std::get<double>(*scale));
  const Attribute* zero_point = n.attributes().find("zero_point");
  out->zero_point = zero_point ? std::get<std::int64_t>(*zero_point) : 0;
  return true;
}

Status say_scale(Graph& graph, const Value* codes, const StaticScale& scale) {
  // A list, as chains of readers may be long.
  for (std::vector<const Value*> pending{codes}; !pending.empty();) {
    const std::vector<Use> uses = pending.back()->uses();
    pending.pop_back();
    for (const Use& use : uses) {
      Node* user = use.user;
      if (user->is(Op::dequantize) && user->inputs().size() == 1 && !user->attributes().has("scale")) {
        user->set_attribute("scale", static_cast<double>(scale.scale));
        user->set_attribute("zero_point", scale.zero_point);
      }
      if (user->output_count() != 1 || !user->output()->type().quantization || user->is(Op::quantize)) continue;
      AOQ_TRY(graph.infer(user));
      pending.push_back(user->output());
    }
  }
  return {};
}

}  // namespace aoq::rewrite
