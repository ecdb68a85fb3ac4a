// torchao's affine observers (spec D.14) beyond what the registry offers.
#pragma once

#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/observer.h"

namespace aoq {

// The mean squared error of each block of f32 `x` when it is quantized from the range [min, max]: what affine_mse
// compares.
Result<std::vector<float>> affine_mse_losses(const ObserverSpec& spec, TensorView x, std::span<const float> min,
                                             std::span<const float> max);

}  // namespace aoq
