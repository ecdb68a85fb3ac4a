// What smoothquant and awq end in: a factor per input channel, which multiplies the weight's columns and divides the
// layer's input.
#pragma once

#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// weight [N, K] times factors [K], rounded to the weight's type (f32, bf16, f16): what is quantized.
Result<Tensor> scale_columns(TensorView weight, std::span<const float> factors);

// 1 / factor, rounded to `dtype`: what multiplies the input at run time.
std::vector<float> pre_scale_of(std::span<const float> factors, DType dtype);

}  // namespace aoq
