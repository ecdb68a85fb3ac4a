// The histogram that several observers gather, and the algorithms that choose a range from one. Internal to
// passes/quantize.
#pragma once

#include <span>
#include <vector>

#include "passes/quantize/observer_factories.h"
#include "passes/quantize/torch_math.h"

namespace aoq::observers {

// Counts of equal bins over [min, max].
struct HistogramView {
  std::span<const float> counts;
  float min;
  float max;
};

using ChooseRange = torch_math::Range (*)(const HistogramView& histogram, const ObserverSpec& spec);

// PyTorch's search for the range of the least squared error (spec C.3, parameter search).
torch_math::Range torch_search(const HistogramView& histogram, const ObserverSpec& spec);

// Gathers as PyTorch's HistogramObserver does and leaves the choice of the range to `choose`.
Result<std::unique_ptr<Observer>> make_histogram_observer(const ObserverSpec& spec, ChooseRange choose);

}  // namespace aoq::observers
