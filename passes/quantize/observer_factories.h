// One maker per row of observers.def, each defined beside its observer. Internal to passes/quantize.
#pragma once

#include <memory>

#include "passes/quantize/observer.h"

namespace aoq::observers {

#define AOQ_OBSERVER(kind, summary) Result<std::unique_ptr<Observer>> make_##kind(const ObserverSpec& spec);
#include "passes/quantize/observers.def"
#undef AOQ_OBSERVER

}  // namespace aoq::observers
