// How much arithmetic a step is: the multiply-accumulates that its definition takes, for shares of a machine's peak.
#pragma once

#include <cstdint>
#include <span>

#include "ir/graph.h"
#include "runtime/backend.h"

namespace aoq {

// Of convolutions, linear layers, matrix products and recurrent layers at these shapes, padding included; 0 for every
// other op. `inputs` has rank 0 where an input is absent. Saturates at the largest number.
std::uint64_t multiply_accumulates(const Node& node, std::span<const ConcreteType> inputs,
                                   std::span<const ConcreteType> outputs);

}  // namespace aoq
