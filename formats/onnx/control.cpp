// Control flow: If on a condition that is known now becomes one of its branches. Loop and Scan have no row.
#include "formats/onnx/context.h"

namespace aoq::onnx {

namespace {

Status import_if(NodeContext& c) {
  const AttributeProto* then_branch = c.raw("then_branch");
  const AttributeProto* else_branch = c.raw("else_branch");
  if (!then_branch || !else_branch || then_branch->graphs.size() != 1 || else_branch->graphs.size() != 1) {
    return c.invalid("then_branch and else_branch must be graphs");
  }
  const Known* condition = c.known(0);
  if (condition == nullptr || condition->elements.size() != 1 || !condition->is_constant()) {
    return c.unsupported(
        "the condition depends on data; export the model without control flow, or bind the symbols "
        "that the condition depends on");
  }
  bool is_true = !(condition->elements[0] == Dim(0));
  AOQ_ASSIGN(std::vector<Binding> outputs,
             c.importer().inline_subgraph((is_true ? then_branch : else_branch)->graphs[0]));
  if (outputs.size() != c.node().outputs.size()) {
    return c.invalid("the branch has {} outputs for {} of the node", outputs.size(), c.node().outputs.size());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) AOQ_TRY(c.result(std::move(outputs[i]), i));
  return {};
}

const Handler kHandlers[] = {
    {"If", 7, 0, 1, 1, kAnyNumber, import_if},
};

}  // namespace

std::span<const Handler> control_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
