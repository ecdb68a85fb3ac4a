// Elementwise kernels between floats and 8-bit codes. Every function works on any piece [0, n) of a tensor.
#pragma once

#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"

namespace aoq::cpu {

// ir/epilogue.h: quantize_value. `type` is u8 or i8; qmin and qmax may be narrower than it.
struct QuantizeParams {
  DType type = DType::u8;
  float inv_scale = 1.0f;
  std::int32_t zero_point = 0;
  std::int32_t qmin = 0;
  std::int32_t qmax = 255;
};
void quantize_f32(Isa isa, const QuantizeParams& params, const float* x, void* out, std::int64_t n);

// ir/epilogue.h: dequantize_value.
struct DequantizeParams {
  DType type = DType::u8;
  float scale = 1.0f;
  std::int32_t zero_point = 0;
};
void dequantize_bytes(Isa isa, const DequantizeParams& params, const void* x, float* out, std::int64_t n);

// round_and_clamp((float(x - x_zero_point) * x_scale) * inv_out, bounds), inv_out = 1 / out_scale: dequantized and
// quantized.
struct RequantizeParams {
  DType x_type = DType::u8;
  std::int32_t x_zero_point = 0;
  float x_scale = 1.0f;
  float inv_out = 1.0f;
  DType out_type = DType::u8;
  RequantBounds bounds = {0.0f, 255.0f, 0};
};
void requantize_bytes(Isa isa, const RequantizeParams& params, const void* x, void* out, std::int64_t n);

// out[i] = table[x[i]]; codes of type i8 index by their bits, so the entry of code q is table[uint8(q)].
void look_up_bytes(Isa isa, const std::uint8_t table[256], const void* x, void* out, std::int64_t n);

// The smallest and largest of n > 0 floats, for dynamic quantization; NaN if any is NaN.
struct Range {
  float min, max;
};
Range range_of(Isa isa, const float* x, std::int64_t n);

}  // namespace aoq::cpu
