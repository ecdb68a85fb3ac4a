// fuse-quantize: codes are made where the numbers are, in a lowered graph.
//
//   quantize(attention(...))                    =>   attention(...) {out_dtype, out_scale, out_zero_point}
//   quantize(layer_norm(x))                     =>   qlayer_norm(x)
//
// Reshapes and permutes between the op and its quantize move the codes instead. The numbers stay the same: the ops are
// defined as the pairs. The float value may have no other reader, and the codes may not be a result of the graph, where
// their type says how to read them.
#include <vector>

#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

bool moves(const Node& n) {
  return is_one_of(n, {Op::reshape, Op::permute});
}

// Whether the value is a result of the graph, moved or not. A list, as chains of moves may be long.
bool is_result(const Value* v) {
  for (std::vector<const Value*> pending{v}; !pending.empty();) {
    v = pending.back();
    pending.pop_back();
    for (const Use& use : v->uses()) {
      if (use.user->is(Op::output)) return true;
      if (moves(*use.user)) pending.push_back(use.user->output());
    }
  }
  return false;
}

// What computed the value, with the nodes that moved it on the way, last first; null where something else reads it.
struct Source {
  Node* node = nullptr;
  std::vector<Node*> moves;
};
Source source_of(const Value* v) {
  Source s;
  while (v->has_one_use()) {
    s.node = v->def();
    if (!moves(*s.node)) return s;
    s.moves.push_back(s.node);
    v = s.node->input(0);
  }
  return {};
}

Result<bool> fuse(Graph& graph, Node* q) {
  const DType dtype = q->output()->type().dtype;
  StaticScale to;
  if (!read_scale(*q, &to) || (dtype != DType::u8 && dtype != DType::i8) || is_result(q->output())) return false;
  const Source source = source_of(q->input(0));
  if (source.node == nullptr || !is_one_of(*source.node, {Op::attention, Op::layer_norm})) return false;
  if (source.node->output()->type().dtype != DType::f32 || source.node->output_count() != 1) return false;
  Attributes a = source.node->attributes();
  a.set("out_dtype", dtype);
  a.set("out_scale", static_cast<double>(to.scale));
  a.set("out_zero_point", to.zero_point);
  const Op op = source.node->is(Op::layer_norm) ? Op::qlayer_norm : Op::attention;
  AOQ_ASSIGN(Node * made, graph.create_like(*source.node, op, source.node->inputs(), std::move(a), source.node));
  if (!source.node->reason.empty()) made->reason = source.node->reason + "; writes its result as codes";
  for (std::size_t i = source.moves.size(); i-- > 0;) {
    const Node& move = *source.moves[i];
    AOQ_ASSIGN(Node * moved, graph.create_like(move, move.op(), {made->output()}, move.attributes(), q));
    moved->reason = move.reason;
    made = moved;
  }
  replace_node(graph, q, made->output());
  AOQ_TRY(say_scale(graph, made->output(), to));
  return true;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  if (graph.stage != Stage::lowered) return changed;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (n->is(Op::quantize)) {
      AOQ_ASSIGN(bool fused, fuse(graph, n));
      changed = changed || fused;
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fuse_quantize;
const PassDef kPass_fuse_quantize = {
    .name = "fuse-quantize", .summary = "Lets attention and layer norms write codes themselves.", .run = run};

}  // namespace aoq
