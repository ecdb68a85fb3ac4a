// Data movement that moves nothing, or moves twice:
//
//   reshape to its own shape, expand to its own shape, cast to its own type, concat of one, whole slice,
//   identity permute, zero pad, unbounded clamp                  => x
//   reshape(reshape(x))                                          => reshape(x)
//   permute(permute(x))                                          => permute(x)
//   permute that keeps the order of all dimensions but those of 1 => reshape(x)
//
// Each keeps elements and order, by the definition of the op.
#include <algorithm>
#include <cmath>

#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

bool same_shape(const Node& n) {
  return n.input(0)->type().shape == n.output()->type().shape;
}

bool is_whole_slice(const Node& n) {
  for (const Dim& start : n.attributes().dims("starts")) {
    if (!(start == Dim(0))) return false;
  }
  for (std::int64_t step : n.attributes().integers("steps")) {
    if (step != 1) return false;
  }
  return same_shape(n);
}

bool is_identity_permute(const std::vector<std::int64_t>& perm) {
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

bool is_identity(const Node& n) {
  if (is_one_of(n, {Op::reshape, Op::expand})) return same_shape(n);
  if (n.is(Op::cast)) return n.input(0)->type().dtype == n.output()->type().dtype;
  if (n.is(Op::concat)) return n.inputs().size() == 1;
  if (n.is(Op::slice)) return is_whole_slice(n);
  if (n.is(Op::permute)) return is_identity_permute(n.attributes().integers("perm"));
  if (n.is(Op::pad)) {
    const std::vector<std::int64_t>& pads = n.attributes().integers("pads");
    return std::all_of(pads.begin(), pads.end(), [](std::int64_t p) { return p == 0; });
  }
  return n.is(Op::clamp) && n.attributes().real("min") == -INFINITY && n.attributes().real("max") == INFINITY;
}

// True when the permute moves only dimensions of size 1.
bool keeps_order(const Node& n) {
  const std::vector<Dim>& shape = n.input(0)->type().shape;
  std::int64_t last = -1;
  for (std::int64_t d : n.attributes().integers("perm")) {
    if (shape[static_cast<std::size_t>(d)] == Dim(1)) continue;
    if (d < last) return false;
    last = d;
  }
  return true;
}

Result<Node*> rewrite_node(Graph& graph, Node* n) {
  if (n->is(Op::reshape)) {
    if (Node* inner = input_node(n, 0, Op::reshape)) {
      return graph.create_like(*n, Op::reshape, {inner->input(0)}, n->attributes(), n);
    }
  }
  if (n->is(Op::permute)) {
    if (Node* inner = input_node(n, 0, Op::permute)) {
      std::vector<std::int64_t> composed;
      const std::vector<std::int64_t>& first = inner->attributes().integers("perm");
      for (std::int64_t d : n->attributes().integers("perm")) composed.push_back(first[static_cast<std::size_t>(d)]);
      return graph.create_like(*n, Op::permute, {inner->input(0)}, {{"perm", composed}}, n);
    }
    if (keeps_order(*n)) {
      return graph.create_like(*n, Op::reshape, {n->input(0)}, {{"shape", n->output()->type().shape}}, n);
    }
  }
  return static_cast<Node*>(nullptr);
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (is_identity(*n) && n->input(0)->type() == n->output()->type()) {
      replace_node(graph, n, n->input(0));
      changed = true;
    } else {
      AOQ_ASSIGN(Node * made, rewrite_node(graph, n));
      if (made != nullptr) {
        replace_node(graph, n, made->output());
        next = made;  // it may simplify again
        changed = true;
      }
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_simplify_shapes;
const PassDef kPass_simplify_shapes = {
    .name = "simplify-shapes", .summary = "Removes data movement that moves nothing, or moves twice.", .run = run};

}  // namespace aoq
