// Values that no run changes but that no file stores: weights that lie in it as codes and are read as floats.
#pragma once

#include "ir/graph.h"

namespace aoq {

// A dequantize or dequantize_rows of plain constants: it is computed once, when a plan or a kernel first wants it, and
// is no step of a plan.
bool is_computed_constant(const Node& node);
// By the reference of the op table.
Result<Tensor> compute_constant(const Node& node);

}  // namespace aoq
