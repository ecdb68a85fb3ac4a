// Matching the patterns of a backend configuration against units.
#pragma once

#include <vector>

#include "passes/fx/backend_config.h"
#include "passes/fx/units.h"

namespace aoq::fx {

enum class Fused : std::uint8_t { only, not_at_all };

// The patterns that are (or are not) fused into one module, longest first, else in their order.
std::vector<const BackendPattern*> by_length(const BackendConfig& config, Fused fused);
// The units that a pattern covers when its last entry is unit `last`, in order; empty where it does not fit. All but
// the last must have one reader.
std::vector<int> chain_ending_at(const Units& units, const BackendPattern& pattern, int last);

}  // namespace aoq::fx
