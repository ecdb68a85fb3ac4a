// A user's module that cannot be traced, in its forms: y = W x + b, and a row whose largest element is above a limit is
// scaled down to it. How much is scaled depends on the data.
//
//   acme.LimitedLinear            float
//   acme.ObservedLimitedLinear    float; its second result, W x + b before the limit, wants an observer
//   acme.QuantizedLimitedLinear   static: u8 codes in and out, int8 weights
//   acme.DynamicLimitedLinear     float in and out, int8 weights, x quantized by its own range in every run
//   acme.WeightOnlyLimitedLinear  float in and out, int8 weights
#pragma once

#include "ir/status.h"

namespace acme {

// Makes the classes and their forms known to this process; call it once, before a model with them is made or read.
aoq::Status register_limited_linear();

}  // namespace acme
