// The values of a graph's symbols in one run, found from the tensors handed in.
#pragma once

#include <span>

#include "ir/graph.h"
#include "ir/tensor.h"

namespace aoq {

// One tensor per graph input. Dimensions that are a bare symbol give its value, then every dimension is checked, and
// every symbol against its range. invalid_data says which input does not fit, what was found and what was expected.
Result<SymbolValues> bind_symbols(const Graph& graph, std::span<const Tensor> inputs);

}  // namespace aoq
