// What ops take in float and in int8, guessed from their shapes where nobody has measured.
//
// The rates are rough: the guess is there to keep out what clearly loses, such as a small op in int8 between float
// ones, and is not asked about the rest.
#pragma once

#include "tools/placement_model.h"

namespace aoq::tools {

enum class EstimatedClass : std::uint8_t { avx2, avx512_vnni };

// Fills in the costs, in microseconds of one thread, with batches of one and 64 for other symbolic dimensions.
// invalid_data where the model makes no sense at these sizes.
Status estimate_costs(const Graph& traced, EstimatedClass machine, PlacementModel& model);

// Declines (passes/quantize/weights.h) the ops of the traced graph that clearly lose in int8 on machines of the class:
// "avx2", "avx512_vnni", or any other name: on both. The result is how many.
Result<std::size_t> decline_by_estimate(Graph& traced, const Recipe& recipe, const std::string& cpu_class);

}  // namespace aoq::tools
