#include "runtime/computed_constant.h"

#include "ir/interpreter.h"

namespace aoq {

bool is_computed_constant(const Node& node) {
  if (!node.is(Op::dequantize) && !node.is(Op::dequantize_rows) && !node.is(Op::dequantize_codebook)) return false;
  for (const Value* v : node.inputs()) {
    if (v != nullptr && constant_tensor(v) == nullptr) return false;
  }
  return true;
}

Result<Tensor> compute_constant(const Node& node) {
  std::vector<Tensor> inputs;
  for (const Value* v : node.inputs()) inputs.push_back(v == nullptr ? Tensor() : *constant_tensor(v));
  Result<std::vector<Tensor>> results = evaluate_node(node, inputs);
  if (!results.ok()) return std::move(results).status().with_context(describe(node));
  return std::move(results->at(0));
}

}  // namespace aoq
