// Running a graph as a model of the CPU backend would.
#pragma once

#include <vector>

#include "ir/graph.h"
#include "ir/tensor.h"

namespace aoq::golden {

// The first result, on one thread.
Result<Tensor> run_on_cpu(Graph graph, const std::vector<Tensor>& inputs);

}  // namespace aoq::golden
