// add(conv|linear(x, w, b), r)   =>   conv|linear(x, w, b, residual = r)
//
// The sum is formed before the activation either way. The add must be the only reader and r of the result's type and no
// constant. The node moves down to the add, where r is defined; its only reader was there.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

bool takes_residual(const Value* v) {
  const Node& n = *v->def();
  return is_one_of(n, {Op::conv, Op::linear}) && v->has_one_use() && n.input(3) == nullptr &&
         n.attributes().string("activation") == "none" && v->type().dtype == DType::f32;
}

// Of two candidates the one that is defined later: the main branch of a residual block.
bool is_before(const Node* a, const Node* b) {
  for (const Node* n = a; n != nullptr; n = n->next()) {
    if (n == b) return true;
  }
  return false;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* add = graph.first(); add != nullptr;) {
    Node* next = add->next();
    if (add->is(Op::add) && add->input(0) != add->input(1)) {
      Value *a = add->input(0), *b = add->input(1);
      if (!takes_residual(a) || (takes_residual(b) && is_before(a->def(), b->def()))) std::swap(a, b);
      bool fits = takes_residual(a) && a->type() == b->type() && a->type() == add->output()->type();
      if (fits && constant_tensor(b) == nullptr) {
        Node* n = a->def();
        graph.move_before(n, add);
        graph.set_input(n, 3, b);
        merge_origins(n, add);
        replace_node(graph, add, n->output());
        changed = true;
      }
    }
    add = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fuse_residual;
const PassDef kPass_fuse_residual = {
    .name = "fuse-residual",
    .summary = "Adds a residual inside the convolution or linear that produces the sum.",
    .run = run};

}  // namespace aoq
