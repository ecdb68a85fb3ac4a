// The reference interpreter: runs a graph node by node with the op table's reference implementations. Plain loops, no
// SIMD, no planning: the oracle for passes, kernels and importers.
#pragma once

#include "ir/executor.h"

namespace aoq {

class ReferenceExecutor : public Executor {
 public:
  Result<std::unique_ptr<Executable>> prepare(const Graph& graph) override;
};

// Computes one node on concrete inputs (an empty Tensor of shape [0] where an optional input is absent). All its
// dimensions must be numbers. Structural nodes cannot be evaluated.
Result<std::vector<Tensor>> evaluate_node(const Node& node, std::span<const Tensor> inputs);

// What a constant is called that takes the place of a node whose inputs are all constant: where the node only moves the
// elements of one of them (a transposed weight), that one's label, else the node's own.
std::string folded_label(const Node& node);

}  // namespace aoq
