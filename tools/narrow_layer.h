// Linear layers with narrow weights beside the float layers that they stand for.
#pragma once

#include <optional>
#include <vector>

#include "ir/graph.h"
#include "runtime/backend.h"

namespace aoq::tools {

// linear_weight_only, linear_dynamic, and a linear whose weight is looked up in a codebook.
bool is_narrow_layer(const Node& node);

// The input of the float layer: in front of the ops that became part of it (a pre-scale, small floats, casts).
const Value* narrow_layer_input(const Node& node);

struct NarrowWeight {
  Tensor codes;
  std::vector<float> values;  // [N, K], with the pre-scale undone: beside the float layer's weight
};
// None where the weight is no constant. `backend` unpacks.
Result<std::optional<NarrowWeight>> narrow_weight(const Node& node, const Backend& backend);

// Constant codes as a plain tensor; none for other values.
Result<std::optional<Tensor>> plain_codes(const Value* value, const Backend& backend);

}  // namespace aoq::tools
