// The verifier: what must hold of every graph, and of graphs at a stage.
#pragma once

#include "ir/graph.h"

namespace aoq {

// Checks definition before use, use lists, inferred types, names of inputs, declared symbols, the one output node at
// the end, and the rules of graph.stage. Runs after every pass and when a file is read. The error names the node.
Status verify(const Graph& graph);

}  // namespace aoq
