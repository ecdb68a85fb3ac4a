// Checking what a caller hands in against the model's inputs. Internal to the runtime.
#pragma once

#include <span>
#include <vector>

#include "ir/dim.h"
#include "ir/tensor.h"
#include "runtime/model.h"

namespace aoq {

// invalid_data names the input, what was found and what was expected.
Status check_inputs(const Model& model, std::span<const TensorView> inputs);

// The values of the symbols that these input shapes, whose count and ranks are right, give.
Result<SymbolValues> bind_input_shapes(const Model& model, const std::vector<std::vector<std::int64_t>>& shapes);

// "\"x\", \"mask\""
std::string list_names(std::span<const Port> ports);

}  // namespace aoq
