#include "passes/rewrite/layout.h"

namespace aoq::rewrite {

namespace {

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

Status permute_operand(Graph& graph, Node* like, std::vector<Value*>& inputs, int operand) {
  auto i = static_cast<std::size_t>(operand);
  if (operand < 0 || i >= inputs.size() || inputs[i] == nullptr) return {};
  AOQ_ASSIGN(Node * p,
             graph.create_like(*like, Op::permute, {inputs[i]}, {{"perm", to_last(inputs[i]->type().rank())}}, like));
  inputs[i] = p->output();
  return {};
}

}  // namespace

bool is_channels_first(const OpDef& def, const std::vector<Value*>& inputs, const Attributes& attributes) {
  if (def.attribute("channels_last") == nullptr || def.op == Op::resize) return false;
  if (inputs.empty() || inputs[0] == nullptr || inputs[0]->type().rank() < 3) return false;
  const Attribute* last = attributes.find("channels_last");
  return last == nullptr || !std::get<bool>(*last);
}

Result<LayoutNode> create_channels_last(Graph& graph, Node* like, Op op, std::vector<Value*> inputs,
                                        Attributes attributes) {
  const OpDef& def = op_def(op);
  if (!is_channels_first(def, inputs, attributes)) {
    AOQ_ASSIGN(Node * node, graph.create_like(*like, op, std::move(inputs), std::move(attributes), like));
    return LayoutNode{node, node};
  }
  std::int64_t rank = inputs[0]->type().rank();
  AOQ_TRY(permute_operand(graph, like, inputs, 0));
  AOQ_TRY(permute_operand(graph, like, inputs, def.input_index("residual")));
  attributes.set("channels_last", true);
  AOQ_ASSIGN(Node * node, graph.create_like(*like, op, std::move(inputs), std::move(attributes), like));
  AOQ_ASSIGN(Node * back, graph.create_like(*like, Op::permute, {node->output()}, {{"perm", to_first(rank)}}, like));
  return LayoutNode{node, back};
}

}  // namespace aoq::rewrite
