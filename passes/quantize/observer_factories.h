// One maker per row of observers.def, each defined beside its observer. Internal to passes/quantize.
#pragma once

#include <memory>

#include "passes/quantize/observer.h"

namespace aoq::observers {

#define AOQ_OBSERVER(kind, summary) Result<std::unique_ptr<Observer>> make_##kind(const ObserverSpec& spec);
#include "passes/quantize/observers.def"
#undef AOQ_OBSERVER

// The codes and the formula that a spec of torch.ao's observers asks for.
Result<ObserverFormula> formula_of(const ObserverSpec& spec);

// The f32 elements of a batch; invalid_argument for another type.
Result<std::span<const float>> f32_elements(const TensorView& x);

}  // namespace aoq::observers
