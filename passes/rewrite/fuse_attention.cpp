// fuse-attention: the products, the softmax between them and what scales and masks the scores become one op.
//
//   matmul(softmax(matmul(q, kT) [* scale] [/ divisor] [+ mask], last axis), v)
//     =>   permute(attention(permute(q), permute(kT), permute(v), mask))
//
// The op reads [batch, rows, heads, width], as linear layers write it: simplify-shapes takes the permutes away with
// those that made heads of rows, and the result's with the one that follows. Operands of rank 3 have one head, and so
// have those whose heads lie apart in memory, as in a cache of keys and values: their heads are batches. Nothing in
// between may have another reader.
//
// The op's f32 arithmetic is that of the nodes, rounding for rounding. It computes on codes where q, k and v come from
// integer linear layers, unless the recipe is of one of PyTorch's workflows or keeps one of the nodes in float.
#include <algorithm>
#include <cmath>
#include <optional>

#include "passes/quantize/recipe.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

struct Pattern {
  Node* mix = nullptr;  // the second product
  Node* softmax = nullptr;
  Node* scores = nullptr;  // the first product
  Value *q = nullptr, *kt = nullptr, *v = nullptr, *mask = nullptr;
  std::optional<double> scale, divisor;
  std::vector<Node*> between;  // what scales and masks
};

// The node behind a value that has no other reader.
Node* own_node(const Value* v, Op op) {
  return v != nullptr && v->has_one_use() && v->def()->is(op) ? v->def() : nullptr;
}

// Which operand the scores come through; their shape must be the result's, so that the other one only broadcasts.
std::optional<std::size_t> scores_operand(const Node& n) {
  for (std::size_t i = 0; i < 2; ++i) {
    const Value* v = n.input(i);
    const bool is_inner = v->has_one_use() && is_one_of(*v->def(), {Op::matmul, Op::mul, Op::div, Op::add});
    if (is_inner && v->type() == n.output()->type() && v != n.input(1 - i)) return i;
  }
  return std::nullopt;
}

// A node that scales or masks; what it does is noted and the scores before it are returned, null where it does other
// things. From the softmax upwards: mask, divisor, scale, each at most once.
Value* take_step(Pattern& p, Node* n) {
  if (!is_one_of(*n, {Op::add, Op::mul, Op::div})) return nullptr;
  const std::optional<std::size_t> at = scores_operand(*n);
  if (!at) return nullptr;
  Value* other = n->input(1 - *at);
  if (n->is(Op::add)) {
    const bool fits = p.mask == nullptr && !p.scale && !p.divisor && other->type().dtype == DType::f32;
    if (!fits) return nullptr;
    p.mask = other;
    return n->input(*at);
  }
  double number = 0;
  if (!scalar_constant(other, &number) || other->type().dtype != DType::f32 || p.scale) return nullptr;
  if (!std::isfinite(number)) return nullptr;
  if (n->is(Op::mul)) {
    p.scale = number;
  } else if (*at == 0 && !p.divisor) {
    p.divisor = number;
  } else {
    return nullptr;
  }
  return n->input(*at);
}

bool is_last_axis(const Node& softmax) {
  const std::int64_t rank = softmax.output()->type().rank(), axis = softmax.attributes().integer("axis");
  return axis == -1 || axis == rank - 1;
}

// Equal batches, heads and lengths, without broadcasting.
bool shapes_fit(const Pattern& p) {
  const std::vector<Dim>&q = p.q->type().shape, &kt = p.kt->type().shape, &v = p.v->type().shape;
  const std::size_t rank = q.size();
  if ((rank != 3 && rank != 4) || kt.size() != rank || v.size() != rank) return false;
  for (std::size_t d = 0; d + 2 < rank; ++d) {
    if (!(q[d] == kt[d] && q[d] == v[d])) return false;
  }
  if (p.mask != nullptr && p.mask->type().rank() > static_cast<std::int64_t>(rank)) return false;
  return q[rank - 1] == kt[rank - 2] && kt[rank - 1] == v[rank - 2];
}

std::optional<Pattern> pattern_of(Node* mix) {
  Pattern p;
  p.mix = mix;
  p.softmax = mix->is(Op::matmul) ? own_node(mix->input(0), Op::softmax) : nullptr;
  if (p.softmax == nullptr || !is_last_axis(*p.softmax)) return std::nullopt;
  Value* x = p.softmax->input(0);
  while ((p.scores = own_node(x, Op::matmul)) == nullptr) {
    Node* step = x->has_one_use() ? x->def() : nullptr;
    x = step == nullptr ? nullptr : take_step(p, step);
    if (x == nullptr) return std::nullopt;
    p.between.push_back(step);
  }
  p.q = p.scores->input(0);
  p.kt = p.scores->input(1);
  p.v = mix->input(1);
  for (const Value* v : {p.q, p.kt, p.v}) {
    if (v->type().dtype != DType::f32) return std::nullopt;
  }
  return shapes_fit(p) ? std::optional(p) : std::nullopt;
}

// The linear layer of integers that a value comes from, through data movement and scaling.
bool is_from_integers(const Value* v) {
  for (const Node* n = v->def();; n = n->input(0)->def()) {
    if (n->is(Op::qlinear)) return n->requested == "int8";
    double factor = 0;
    const bool is_scaled = is_one_of(*n, {Op::mul, Op::div}) && scalar_constant(n->input(1), &factor);
    if (!is_scaled && !is_one_of(*n, {Op::reshape, Op::permute, Op::slice, Op::gather})) return false;
  }
}

bool runs_on_codes(const Pattern& p, const PassContext& context) {
  if (context.recipe != nullptr) {
    const Recipe& recipe = *context.recipe;
    if (!recipe.backend.empty() || !recipe.configs.empty()) return false;
    for (const Node* n : {p.scores, p.softmax, p.mix}) {
      if (is_kept_float(recipe, *n)) return false;
    }
  }
  return is_from_integers(p.q) && is_from_integers(p.kt) && is_from_integers(p.v);
}

// Whether every head's values lie together: then no permute of v will go away, and a mask must not tell the batches of
// heads apart.
bool has_heads_apart(const Pattern& p) {
  if (p.q->type().rank() != 4 || p.v->def()->is(Op::permute)) return false;
  if (p.mask == nullptr || p.mask->type().rank() < 3) return true;
  const std::vector<Dim>& mask = p.mask->type().shape;
  return std::all_of(mask.begin(), mask.end() - 2, [](const Dim& d) { return d == Dim(1); });
}

using Perm = std::vector<std::int64_t>;

class Fusion {
 public:
  Fusion(Graph& graph, const Pattern& p)
      : graph_(graph), p_(p), has_rows_of_heads_(p.q->type().rank() == 4 && !has_heads_apart(p)) {}

  Status run(bool on_codes) {
    AOQ_ASSIGN(Value * q, arranged(p_.q, {0, 1, 2}));
    AOQ_ASSIGN(Value * k, arranged(p_.kt, {0, 2, 1}));
    AOQ_ASSIGN(Value * v, arranged(p_.v, {0, 1, 2}));
    AOQ_ASSIGN(Value * mask, arranged_mask());
    Attributes a;
    if (p_.scale) a.set("scale", *p_.scale);
    if (p_.divisor) a.set("divisor", *p_.divisor);
    if (on_codes) a.set("arithmetic", std::string("int8"));
    AOQ_ASSIGN(Node * made, graph_.create_like(*p_.mix, Op::attention, {q, k, v, mask}, std::move(a), p_.mix));
    made->reason = on_codes ? "" : p_.mix->reason;
    if (on_codes) made->requested = "int8";
    name(made);
    AOQ_ASSIGN(Value * y, back(made->output()));
    replace_node(graph_, p_.mix, y);
    return {};
  }

 private:
  // The products, the softmax and what was between them, in their order.
  void name(Node* made) const {
    made->origins.clear();
    merge_origins(made, p_.scores);
    for (std::size_t i = p_.between.size(); i-- > 0;) merge_origins(made, p_.between[i]);
    merge_origins(made, p_.softmax);
    merge_origins(made, p_.mix);
  }

  Result<Value*> permuted(Value* x, Perm perm) {
    AOQ_ASSIGN(Node * n, graph_.create_like(*p_.mix, Op::permute, {x}, {{"perm", std::move(perm)}}, p_.mix));
    return plain(n);
  }
  Result<Value*> reshaped(Value* x, std::vector<Dim> shape) {
    AOQ_ASSIGN(Node * n, graph_.create_like(*p_.mix, Op::reshape, {x}, {{"shape", std::move(shape)}}, p_.mix));
    return plain(n);
  }
  static Value* plain(Node* n) {
    n->requested.clear();
    return n->output();
  }

  // [batch, heads, a, b] as [batch, rows, heads, width]; `perm` says which of [batch, a, b] comes where. With one head
  // batches and heads are one dimension.
  Result<Value*> arranged(Value* x, const Perm& perm) {
    if (has_rows_of_heads_) return permuted(x, {0, perm[1] + 1, 1, perm[2] + 1});
    const bool is_transposed = perm[1] != 1, has_heads = x->type().rank() == 4;
    if (is_transposed) {
      AOQ_ASSIGN(x, permuted(x, has_heads ? Perm{0, 1, 3, 2} : perm));
    }
    const std::vector<Dim>& s = x->type().shape;
    return reshaped(x, {has_heads ? s[0] * s[1] : s[0], s[s.size() - 2], Dim(1), s.back()});
  }

  Result<Value*> arranged_mask() {
    if (p_.mask == nullptr || p_.q->type().rank() == 4 || p_.mask->type().rank() < 3) return p_.mask;
    const std::vector<Dim>& s = p_.mask->type().shape;
    return reshaped(p_.mask, {s[0], Dim(1), s[1], s[2]});
  }

  Result<Value*> back(Value* y) {
    if (has_rows_of_heads_) return permuted(y, {0, 2, 1, 3});
    return reshaped(y, p_.mix->output()->type().shape);
  }

  Graph& graph_;
  const Pattern& p_;
  const bool has_rows_of_heads_;  // [batch, rows, heads, width], as linear layers write it
};

Result<bool> run(Graph& graph, PassContext& context) {
  bool changed = false;
  if (graph.stage != Stage::lowered) return changed;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (std::optional<Pattern> p = pattern_of(n)) {
      AOQ_TRY(Fusion(graph, *p).run(runs_on_codes(*p, context)));
      changed = true;
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fuse_attention;
const PassDef kPass_fuse_attention = {
    .name = "fuse-attention", .summary = "Makes products around a softmax one op over heads.", .run = run};

}  // namespace aoq
