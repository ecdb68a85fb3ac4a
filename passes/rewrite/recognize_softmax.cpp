// recognize-softmax: finds softmax spelled out.
//
//   before   e = exp(x - max(x));  e / sum(e)      maximum and sum over one axis; div, or mul by the reciprocal
//   before   e = exp(x);           e / sum(e)
//   after    softmax(x) {axis}
//
// Correct because the common factor exp(-max) cancels; where the second form overflows, softmax does not. exp may have
// no reader but the quotient and the sum.
#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

// u without a maximum over `axes` that is subtracted from it.
Value* without_maximum(Value* u, const std::vector<std::int64_t>& axes) {
  const Node* sub = match::node_of(u, Op::sub);
  auto maximum = sub ? match::max_of(sub->input(1)) : std::nullopt;
  bool is_own = maximum && maximum->x == sub->input(0) && maximum->axes == axes && sub->input(0)->type() == u->type();
  return is_own ? sub->input(0) : u;
}

struct Found {
  Value* x;
  std::int64_t axis;
};

std::optional<Found> softmax_of(Value* y) {
  match::Product p = match::product_of(y);
  if (p.factors.size() != 1 || p.divisors.size() != 1 || !p.root_divisors.empty() || p.scalar != 1.0)
    return std::nullopt;
  Value* e = p.factors[0];
  const Node* exp = match::node_of(e, Op::exp);
  auto sum = match::sum_of(p.divisors[0]);
  bool is_match =
      exp != nullptr && sum && sum->x == e && sum->axes.size() == 1 && e->uses().size() == 2 && e->type() == y->type();
  if (!is_match) return std::nullopt;
  return Found{without_maximum(exp->input(0), sum->axes), sum->axes[0]};
}

}  // namespace

Result<bool> recognize_softmax(Graph& graph) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if ((!n->is(Op::mul) && !n->is(Op::div)) || n->output()->uses().empty()) continue;
    std::optional<Found> found = softmax_of(n->output());
    if (!found) continue;
    AOQ_ASSIGN(Node * softmax, graph.create_like(*n, Op::softmax, {found->x}, {{"axis", found->axis}}, n));
    graph.replace_uses(n->output(), softmax->output());
    changed = true;
  }
  return changed;
}

}  // namespace aoq
