// NVFP4: f4_e2m1 codes in blocks of 16 along the last dimension with an f8_e4m3fn scale each, and, in the two-level
// form, one fp32 scale of the whole tensor (pytorch-semantics D.7).
//
// All functions are pure and may be called from any thread.
#pragma once

#include <optional>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

inline constexpr std::int64_t kNvfp4BlockSize = 16;

struct Nvfp4Tensor {
  Tensor codes;                       // f4_e2m1, in the shape of the input
  Tensor scales;                      // f8_e4m3fn, [..., K / 16]; at least 2^-6
  std::optional<float> tensor_scale;  // of the two-level form
};

// The scale of a block with this largest magnitude, a number of e4m3 from 2^-6 to 448.
float nvfp4_block_scale(float amax, std::optional<float> tensor_scale);

// Largest magnitude / (448 * 6), at least 2^-120: the scale of the two-level form; 1 for a tensor of zeros.
// invalid_data for NaN, infinity, and an empty tensor.
Result<float> nvfp4_tensor_scale(TensorView x);

// x is f32, bf16 or f16 of rank >= 1. block scale = largest magnitude / 6, over the tensor's scale if there is one,
// clamped to [2^-6, 448] and rounded to e4m3; codes of x over both, rounded half to even, saturating. invalid_argument
// where 16 does not divide the last dimension, and for a tensor scale that is not positive, not finite, or so small
// that its reciprocal overflows; invalid_data for NaN.
Result<Nvfp4Tensor> quantize_nvfp4(TensorView x, std::optional<float> tensor_scale);

// code * (tensor scale * block scale) in fp32, rounded to `result`.
Result<Tensor> dequantize_nvfp4(const Nvfp4Tensor& x, DType result);

}  // namespace aoq
