// MX block formats: small floats that share a power of two per block of the last dimension (OCP Microscaling Formats
// 1.0; pytorch-semantics D.6).
//
// All functions are pure and may be called from any thread.
#pragma once

#include <cstdint>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// How the power of two follows from a block's largest magnitude `amax` and the highest power of two that the element
// type has, 2^p.
enum class MxScaling : std::uint8_t {
  floor,  // floor(log2(amax)) - p
  even,   // the same of amax rounded, half up, to the element's mantissa
  ceil,   // ceil(log2(amax)) - p
  rceil,  // ceil(log2(amax / highest element)): nothing is clamped
};

struct MxForm {
  DType element = DType::f8_e4m3fn;  // f8_e4m3fn, f8_e5m2, f6_e2m3, f6_e3m2, f4_e2m1
  std::int64_t block_size = 32;
  MxScaling scaling = MxScaling::floor;
};

struct MxTensor {
  Tensor codes;   // of the element type, in the shape of the input
  Tensor scales;  // f8_e8m0, [..., K / block_size]; code b means 2^(b - 127), 255 is NaN
};

// x is f32, bf16 or f16 of rank >= 1. Codes are rounded half to even and saturate. A block with NaN has the scale NaN,
// which is how the format says it; infinity becomes the highest element under the largest scale. A block so small that
// its exponent leaves the range of e8m0 has the least scale and is divided by 2^-126, or by 1 with rceil, as torchao
// does. invalid_argument for another element type, and a block size that does not divide the last dimension.
Result<MxTensor> quantize_mx(TensorView x, const MxForm& form);

// element * 2^(b - 127) in `result`: f32, bf16 or f16. The block size follows from the shapes.
Result<Tensor> dequantize_mx(TensorView codes, TensorView scales, DType result);

}  // namespace aoq
