// recognize-silu: finds SiLU (swish) spelled out.
//
//   before   x * sigmoid(x)
//   after    silu(x)
//
// Correct by the definition of silu. The sigmoid must have no other reader.
#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

Value* silu_argument(const Node& mul) {
  for (std::size_t i = 0; i < 2; ++i) {
    const Node* sigmoid = match::own_node_of(mul.input(i), Op::sigmoid);
    if (sigmoid != nullptr && sigmoid->input(0) == mul.input(1 - i)) return mul.input(1 - i);
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
