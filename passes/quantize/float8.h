// Scaling to 8-bit floats: one fp32 scale per block, and codes of x / scale (pytorch-semantics D.5).
//
// All functions are pure and may be called from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

enum class Float8ScaleForm : std::uint8_t {
  f32,
  power_of_two,  // 2 to the rounded logarithm: what an e8m0 scale can hold
};

struct Float8Scaling {
  DType dtype = DType::f8_e4m3fn;  // f8_e4m3fn, f8_e5m2, f8_e4m3fnuz, f8_e5m2fnuz
  Float8ScaleForm form = Float8ScaleForm::f32;
  // Bounds on the largest magnitude of a block (torchao's hp_value_lb and hp_value_ub).
  std::optional<float> amax_min;
  std::optional<float> amax_max;
};

// scale = largest magnitude of the block / highest finite number of the type, every operation rounded to the type of
// `x` (f32, bf16, f16), as f32 of shape [x.shape[d] / block_size[d] ...]. A block of zeros has scale 0 unless amax_min
// is given. invalid_argument for a type or bounds that make no sense and blocks that do not divide; invalid_data for an
// empty tensor and for a scale that would not be finite.
Result<Tensor> choose_float8_scale(TensorView x, std::span<const std::int64_t> block_size,
                                   const Float8Scaling& scaling);

// Codes of clamp(x / scale), in fp32, rounded half to even. `scale` is f32 and has one number, or the rank of x and
// extents that divide x's: a block is what shares one. NaN in x, and 0 / 0, are NaN codes.
Result<Tensor> quantize_float8(TensorView x, TensorView scale, DType dtype);

// code * scale in fp32, rounded to `result`: f32, bf16 or f16.
Result<Tensor> dequantize_float8(TensorView codes, TensorView scale, DType result);

}  // namespace aoq
