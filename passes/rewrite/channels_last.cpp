// Convolutions and pools of channels-first tensors   =>   permute, the same node with channels_last, permute back.
//
//   conv(x)   =>   permute(conv(permute(x, N S C)) {channels_last}, N C S)
//
// Kernels work on channels-last tensors. Neighbouring permutes cancel in sink-permutes and simplify-shapes.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

std::vector<std::int64_t> to_last(std::int64_t rank) {
  std::vector<std::int64_t> perm{0};
  for (std::int64_t d = 2; d < rank; ++d) perm.push_back(d);
  perm.push_back(1);
  return perm;
}

std::vector<std::int64_t> to_first(std::int64_t rank) {
  std::vector<std::int64_t> perm{0, rank - 1};
  for (std::int64_t d = 1; d < rank - 1; ++d) perm.push_back(d);
  return perm;
}

// The operands that have the layout of the activations.
std::vector<std::size_t> layout_operands(const Node& n) {
  std::vector<std::size_t> operands{0};
  int residual = n.def().input_index("residual");
  if (residual >= 0 && n.input(static_cast<std::size_t>(residual)) != nullptr) {
    operands.push_back(static_cast<std::size_t>(residual));
  }
  return operands;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    const Attribute* last = n->attributes().find("channels_last");
    std::int64_t rank = last != nullptr && n->input(0) != nullptr ? n->input(0)->type().rank() : 0;
    if (last != nullptr && !std::get<bool>(*last) && rank >= 3 && !n->is(Op::resize)) {
      std::vector<Value*> inputs = n->inputs();
      for (std::size_t i : layout_operands(*n)) {
        AOQ_ASSIGN(Node * p, graph.create_like(*n, Op::permute, {inputs[i]}, {{"perm", to_last(rank)}}, n));
        inputs[i] = p->output();
      }
      Attributes attributes = n->attributes();
      attributes.set("channels_last", true);
      AOQ_ASSIGN(Node * made, graph.create_like(*n, n->op(), std::move(inputs), std::move(attributes), n));
      AOQ_ASSIGN(Node * back, graph.create_like(*n, Op::permute, {made->output()}, {{"perm", to_first(rank)}}, n));
      replace_node(graph, n, back->output());
      changed = true;
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_channels_last;
const PassDef kPass_channels_last = {.name = "channels-last",
                                     .summary = "Gives convolutions and pools the channels-last layout.",
                                     .run = run};

}  // namespace aoq
