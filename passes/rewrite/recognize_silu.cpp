// recognize-silu: finds SiLU (swish) spelled out.
//
//   before   x * sigmoid(x)
//   before   x * sigmoid(x * 1)     Paddle's swish with its beta
//   after    silu(x)
//
// Correct by the definition of silu. The sigmoid must have no other reader.
#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

Value* without_factor_one(Value* v) {
  const Node* mul = match::own_node_of(v, Op::mul);
  auto w = mul ? match::with_scalar(*mul) : std::nullopt;
  return w && w->scalar == 1.0 ? w->other : v;
}

Value* silu_argument(const Node& mul) {
  for (std::size_t i = 0; i < 2; ++i) {
    const Node* sigmoid = match::own_node_of(mul.input(i), Op::sigmoid);
    if (sigmoid == nullptr) continue;
    Value* x = mul.input(1 - i);
    if (sigmoid->input(0) == x || without_factor_one(sigmoid->input(0)) == x) return x;
  }
  return nullptr;
}

}  // namespace

Result<bool> recognize_silu(Graph& graph) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if (!n->is(Op::mul) || n->output()->uses().empty()) continue;
    Value* x = silu_argument(*n);
    if (x == nullptr) continue;
    AOQ_ASSIGN(Node * silu, graph.create_like(*n, Op::silu, {x}, {}, n));
    graph.replace_uses(n->output(), silu->output());
    changed = true;
  }
  return changed;
}

}  // namespace aoq
