// Shape arithmetic of elementwise ops: the `known` functions of their rows. Included by formats/onnx/*.cpp only.
#pragma once

#include "formats/onnx/context.h"

namespace aoq::onnx {

// Applies `f` to the elements of both inputs, broadcast; undecided as soon as one element is.
using DimFunction = std::optional<Dim> (*)(const Dim&, const Dim&);
Result<bool> known_binary(NodeContext& c, DimFunction f, std::optional<DType> result_type = std::nullopt);

Result<bool> known_add(NodeContext& c);
Result<bool> known_sub(NodeContext& c);
Result<bool> known_mul(NodeContext& c);
Result<bool> known_div(NodeContext& c);
Result<bool> known_mod(NodeContext& c);
Result<bool> known_min(NodeContext& c);
Result<bool> known_max(NodeContext& c);
Result<bool> known_neg(NodeContext& c);
// The value itself, for rounding functions of whole numbers.
Result<bool> known_same(NodeContext& c);
Result<bool> known_abs(NodeContext& c);
Result<bool> known_cast(NodeContext& c);
Result<bool> known_equal(NodeContext& c);
Result<bool> known_less(NodeContext& c);
Result<bool> known_greater(NodeContext& c);
Result<bool> known_less_equal(NodeContext& c);
Result<bool> known_greater_equal(NodeContext& c);
Result<bool> known_not(NodeContext& c);
Result<bool> known_and(NodeContext& c);
Result<bool> known_or(NodeContext& c);
Result<bool> known_where(NodeContext& c);

}  // namespace aoq::onnx
