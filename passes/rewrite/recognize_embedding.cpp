// recognize-embedding: a one-hot encoding times a matrix picks rows of the matrix.
//
//   before   linear(one_hot(i) {depth = K, on = 1, off = 0}, W [N, K], b)
//   after    gather(T, j),  T [K+1, N]: row k is column k of W plus b, row K is b;  j = i, or K where i is no row
//
// Correct: all products but one are with zero, so the sum is exactly W[:, i] (W must be finite), and adding b here or
// there rounds the same. one_hot gives a row of zeros for indices outside [-K, K) and counts negative ones from the
// end; both are kept. The encoding must have no other reader.
#include <cmath>

#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

struct Found {
  Value* indices;
  std::int64_t depth;
  const Tensor* weight;
  const Tensor* bias;  // may be null
};

bool is_finite(const Tensor& t) {
  for (float v : t.as<float>()) {
    if (!std::isfinite(v)) return false;
  }
  return true;
}

std::optional<Found> embedding_of(const Node& linear) {
  const Node* one_hot = match::own_node_of(linear.input(0), Op::one_hot);
  const Tensor* weight = constant_tensor(linear.input(1));
  const Tensor* bias = constant_tensor(linear.input(2));
  bool is_plain = linear.attributes().string("activation") == "none" && linear.input(3) == nullptr &&
                  (linear.input(2) == nullptr || bias != nullptr);
  if (one_hot == nullptr || weight == nullptr || !is_plain) return std::nullopt;
  const Attributes& a = one_hot->attributes();
  std::int64_t rank = one_hot->output()->type().rank();
  bool is_last = a.integer("axis") == -1 || a.integer("axis") == rank - 1;
  bool is_unit = a.real("on") == 1.0 && a.real("off") == 0.0 && one_hot->output()->type().dtype == DType::f32;
  if (!is_last || !is_unit || weight->dtype() != DType::f32 || weight->shape().size() != 2) return std::nullopt;
  if (a.integer("depth") != weight->shape()[1] || weight->shape()[1] >= INT32_MAX || !is_finite(*weight))
    return std::nullopt;
  return Found{one_hot->input(0), a.integer("depth"), weight, bias};
}

Result<Tensor> table_of(const Found& f) {
  std::int64_t n = f.weight->shape()[0];
  std::int64_t k = f.depth;
  AOQ_ASSIGN(Tensor table, Tensor::make(DType::f32, {k + 1, n}));
  std::span<float> out = table.mutable_as<float>();
  std::span<const float> w = f.weight->as<float>();
  for (std::int64_t row = 0; row <= k; ++row) {
    for (std::int64_t column = 0; column < n; ++column) {
      float v = 0.0f;  // the sum starts from +0, so -0 becomes +0 in it
      if (row < k) v += w[static_cast<std::size_t>(column * k + row)];
      if (f.bias) v += f.bias->as<float>()[static_cast<std::size_t>(column)];
      out[static_cast<std::size_t>(row * n + column)] = v;
    }
  }
  return table;
}

// Small steps on the indices, each in place before the linear.
class Indices {
 public:
  Indices(Graph& graph, Node* at, Value* value) : graph_(graph), at_(at), value_(value) {}

  Status widen() {
    DType dtype = value_->type().dtype;
    if (dtype == DType::i64 || dtype == DType::i32) return {};
    return apply(Op::cast, {value_}, {{"dtype", DType::i64}});
  }
  Status at_most(std::int64_t k) {
    AOQ_ASSIGN(Value * limit, number(k));
    return apply(Op::minimum, {value_, limit});
  }
  // value < 0 ? other : value
  Status replace_negative(Value* other) {
    AOQ_ASSIGN(Value * zero, number(0));
    AOQ_ASSIGN(Node * less, graph_.create_like(*at_, Op::less, {value_, zero}, {}, at_));
    return apply(Op::where, {less->output(), other, value_});
  }
  Status wrap_negative(std::int64_t k) {
    AOQ_ASSIGN(Value * depth, number(k));
    AOQ_ASSIGN(Node * sum, graph_.create_like(*at_, Op::add, {value_, depth}, {}, at_));
    AOQ_TRY(replace_negative(sum->output()));
    return replace_negative(depth);
  }
  Value* value() const { return value_; }

 private:
  Result<Value*> number(std::int64_t v) {
    AOQ_ASSIGN(Tensor t, Tensor::make(value_->type().dtype, {}));
    store_integer(t.dtype(), t.mutable_bytes().data(), 0, v);
    return graph_.constant(std::move(t), at_);
  }
  Status apply(Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
    AOQ_ASSIGN(Node * n, graph_.create_like(*at_, op, std::move(inputs), std::move(attributes), at_));
    value_ = n->output();
    return {};
  }

  Graph& graph_;
  Node* at_;
  Value* value_;
};

// Unsigned, or where(x < 0, positive constant, x), as recognize-one-hot leaves it.
bool is_never_negative(const Value* v) {
  if (!is_signed_integer(v->type().dtype)) return true;
  const Node* where = match::node_of(v, Op::where);
  const Node* less = where ? match::node_of(where->input(0), Op::less) : nullptr;
  const Tensor* zero = less ? constant_tensor(less->input(1)) : nullptr;
  const Tensor* other = where ? constant_tensor(where->input(1)) : nullptr;
  if (zero == nullptr || other == nullptr || less->input(0) != where->input(2)) return false;
  auto first = [](const Tensor& t) { return load_integer(t.dtype(), t.bytes().data(), 0); };
  return zero->element_count() == 1 && other->element_count() == 1 && first(*zero) == 0 && first(*other) >= 0;
}

}  // namespace

Result<bool> recognize_embedding(Graph& graph) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if (!n->is(Op::linear) || n->output()->uses().empty()) continue;
    std::optional<Found> found = embedding_of(*n);
    if (!found) continue;
    AOQ_ASSIGN(Tensor table, table_of(*found));
    Indices indices(graph, n, found->indices);
    bool wraps = !is_never_negative(found->indices);
    AOQ_TRY(indices.widen());
    if (wraps) AOQ_TRY(indices.wrap_negative(found->depth));
    AOQ_TRY(indices.at_most(found->depth));
    std::string origin = n->input(1)->def()->origins.empty() ? "" : n->input(1)->def()->origins.front();
    Value* rows = graph.constant(std::move(table), n, std::move(origin));
    AOQ_ASSIGN(Node * gather,
               graph.create_like(*n, Op::gather, {rows, indices.value()}, {{"axis", std::int64_t{0}}}, n));
    graph.replace_uses(n->output(), gather->output());
    changed = true;
  }
  return changed;
}

}  // namespace aoq
