// The reference interpreter: runs a graph node by node with the op table's plain loops. It defines what a graph means;
// everything faster is tested against it.
#pragma once

#include <span>
#include <vector>

#include "ir/executor.h"

namespace aoq {

// Runs every op at every stage. A value is freed after its last use. Types are inferred again from the concrete shapes,
// so a symbol that broadcasting trusted is checked here.
class ReferenceExecutor : public Executor {
 public:
  Result<std::unique_ptr<Executable>> prepare(const Graph& graph) const override;
};

// The results of one node for concrete inputs, one per operand (absent optional ones: any tensor, it is not looked at).
// `symbols` are the values that dimensions in its attributes need. Not for structural nodes.
Result<std::vector<Tensor>> evaluate_node(const Node& node, std::span<const Tensor> inputs,
                                          const SymbolValues& symbols = {});

}  // namespace aoq
