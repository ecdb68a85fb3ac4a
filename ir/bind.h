// Binding: from the shapes of concrete inputs to the values of a graph's symbols.
#pragma once

#include <span>
#include <vector>

#include "ir/graph.h"

namespace aoq {

struct InputShape {
  DType dtype = DType::f32;
  std::span<const std::int64_t> shape;
};

// Solves dimensions that are a bare symbol and checks all others, the dtypes and the ranges of the symbols.
// invalid_data names the input, what was found and what was expected. Symbols that no input shows are an error only
// where a dimension needs them.
Result<SymbolValues> bind_symbols(const Graph& graph, std::span<const InputShape> inputs);
Result<SymbolValues> bind_symbols(const Graph& graph, std::span<const Tensor> inputs);

// A node's attributes with numbers for symbols.
Result<Attributes> substitute(const Attributes& attributes, const SymbolValues& symbols);

}  // namespace aoq
