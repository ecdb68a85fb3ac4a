// recognize-hardswish: finds hard-swish spelled out.
//
//   before   x * hardsigmoid(x) {alpha = 1/6, beta = 1/2}
//   before   x * clamp(x + 3, 0, 6) / 6           factors in any order, mul or div
//   after    hardswish(x)
//
// Correct because hardsigmoid is clamp(x/6 + 1/2, 0, 1) = clamp(x + 3, 0, 6) / 6. Every value between x and the result
// must have no other reader, and the result must have the type of x.
#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

using match::is_close;

bool is_hard_sigmoid(const Value* gate, const Value* x) {
  const Node* n = match::own_node_of(gate, Op::hardsigmoid);
  return n != nullptr && n->input(0) == x && is_close(n->attributes().real("alpha"), 1.0 / 6.0) &&
         is_close(n->attributes().real("beta"), 0.5);
}

bool is_clamped_sum(const Value* gate, const Value* x) {
  const Node* clamp = match::own_node_of(gate, Op::clamp);
  if (clamp == nullptr || clamp->attributes().real("min") != 0.0 || clamp->attributes().real("max") != 6.0)
    return false;
  const Node* add = match::own_node_of(clamp->input(0), Op::add);
  auto w = add ? match::with_scalar(*add) : std::nullopt;
  return w && w->other == x && is_close(w->scalar, 3.0);
}

Value* hardswish_argument(Value* y) {
  match::Product p = match::product_of(y);
  if (p.factors.size() != 2 || !p.divisors.empty() || !p.root_divisors.empty()) return nullptr;
  for (std::size_t i = 0; i < 2; ++i) {
    Value* x = p.factors[i];
    Value* gate = p.factors[1 - i];
    if (x->type() != y->type()) continue;
    if (is_close(p.scalar, 1.0) && is_hard_sigmoid(gate, x)) return x;
    if (is_close(p.scalar, 1.0 / 6.0) && is_clamped_sum(gate, x)) return x;
  }
  return nullptr;
}

}  // namespace

Result<bool> recognize_hardswish(Graph& graph) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if ((!n->is(Op::mul) && !n->is(Op::div)) || n->output()->uses().empty()) continue;
    Value* x = hardswish_argument(n->output());
    if (x == nullptr) continue;
    AOQ_ASSIGN(Node * hardswish, graph.create_like(*n, Op::hardswish, {x}, {}, n));
    graph.replace_uses(n->output(), hardswish->output());
    changed = true;
  }
  return changed;
}

}  // namespace aoq
