// recognize-one-hot: finds a one-hot encoding made by comparing with 0, 1, 2, ...
//
//   before   cast(equal(x [..., 1], constant [0, 1, ..., n-1]))      x perhaps expanded to [..., n] first
//   after    one_hot(where(x < 0, n, x)) {depth = n, on = 1, off = 0}
//
// Correct: row i of the comparison is all zero but at i, and all zero when i is outside [0, n). The op counts a
// negative index from the end, hence the where, which is left out for unsigned indices; n and more give a zero row.
#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

// The depth when the value is a constant that counts 0, 1, ... along the last axis and has no other extent.
std::optional<std::int64_t> counted(const Value* v) {
  const Tensor* t = constant_tensor(v);
  if (t == nullptr || t->shape().empty() || !is_integer(t->dtype())) return std::nullopt;
  std::int64_t n = t->shape().back();
  if (t->element_count() != n || n < 1) return std::nullopt;
  for (std::int64_t i = 0; i < n; ++i) {
    if (load_integer(t->dtype(), t->bytes().data(), i) != i) return std::nullopt;
  }
  return n;
}

struct Found {
  Value* x;  // [..., 1]
  std::int64_t depth;
};

std::optional<Found> comparison_of(const Node& cast) {
  const Node* equal = match::own_node_of(cast.input(0), Op::equal);
  if (equal == nullptr) return std::nullopt;
  for (std::size_t i = 0; i < 2; ++i) {
    std::optional<std::int64_t> depth = counted(equal->input(i));
    if (!depth) continue;
    Value* x = equal->input(1 - i);
    if (const Node* expand = match::own_node_of(x, Op::expand)) x = expand->input(0);
    std::vector<Dim> shape = x->type().shape;
    if (shape.empty() || !(shape.back() == Dim(1)) || !is_integer(x->type().dtype)) return std::nullopt;
    shape.back() = Dim(*depth);
    if (shape != cast.output()->type().shape) return std::nullopt;
    return Found{x, *depth};
  }
  return std::nullopt;
}

Result<Value*> integer(Graph& graph, DType dtype, std::int64_t value, Node* before) {
  AOQ_ASSIGN(Tensor t, Tensor::make(dtype, {}));
  store_integer(dtype, t.mutable_bytes().data(), 0, value);
  return graph.constant(std::move(t), before);
}

// Negative indices become n, which is no row.
Result<Value*> without_negatives(Graph& graph, Node* n, Value* x, std::int64_t depth) {
  DType dtype = x->type().dtype;
  if (!is_signed_integer(dtype)) return x;
  if (dtype != DType::i64 && static_cast<double>(depth) > dtype_info(dtype).max) {
    AOQ_ASSIGN(Node * wide, graph.create_like(*n, Op::cast, {x}, {{"dtype", DType::i64}}, n));
    x = wide->output();
    dtype = DType::i64;
  }
  AOQ_ASSIGN(Value * zero, integer(graph, dtype, 0, n));
  AOQ_ASSIGN(Value * outside, integer(graph, dtype, depth, n));
  AOQ_ASSIGN(Node * less, graph.create_like(*n, Op::less, {x, zero}, {}, n));
  AOQ_ASSIGN(Node * where, graph.create_like(*n, Op::where, {less->output(), outside, x}, {}, n));
  return where->output();
}

}  // namespace

Result<bool> recognize_one_hot(Graph& graph) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if (!n->is(Op::cast) || n->output()->uses().empty()) continue;
    std::optional<Found> found = comparison_of(*n);
    if (!found) continue;
    std::vector<Dim> shape = found->x->type().shape;
    shape.pop_back();
    AOQ_ASSIGN(Node * flat, graph.create_like(*n, Op::reshape, {found->x}, {{"shape", shape}}, n));
    AOQ_ASSIGN(Value * indices, without_negatives(graph, n, flat->output(), found->depth));
    Attributes attributes{{"depth", found->depth}, {"axis", std::int64_t{-1}}, {"dtype", n->output()->type().dtype}};
    AOQ_ASSIGN(Node * one_hot, graph.create_like(*n, Op::one_hot, {indices}, std::move(attributes), n));
    graph.replace_uses(n->output(), one_hot->output());
    changed = true;
  }
  return changed;
}

}  // namespace aoq
