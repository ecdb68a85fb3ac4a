// Samples: whether an op computes each index of the leading dimension by itself, so that a batch can be run in slices.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/op.h"

namespace aoq {

// An op at concrete shapes. The shape of an absent input is empty.
struct SampleContext {
  const OpDef& def;
  const Attributes& attributes;  // with dimensions as numbers
  std::span<const std::vector<std::int64_t>> inputs;
  std::span<const std::int64_t> output;  // of the first result
};

// For each input whether it is cut with the results. Where an entry is true, elements [s, t) of the leading dimension
// of all results depend on elements [s, t) of that input, and the op on these slices gives the same bits; inputs whose
// entry is false enter every slice whole. All false: samples meet in this op, or nothing is known about it. The first
// dimension of the result is what counts samples; a dimension of 1 counts none.
std::vector<bool> sample_inputs(const SampleContext& context);

}  // namespace aoq
