// Addition and multiplication of 8-bit codes with two scales and zero points.
#pragma once

#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"

namespace aoq::cpu {

// An output of rows x columns (contiguous), and where its operands' elements are: a[row * a_row + column * a_column].
// Same shape: row stride = columns, column stride 1. Vector along the last axis: row stride 0. One value per row:
// column stride 0. Scalar: both 0. Column strides are 0 or 1.
struct BroadcastShape {
  std::int64_t rows = 1;
  std::int64_t columns = 0;
  std::int64_t a_row = 0;
  std::int64_t a_column = 1;
  std::int64_t b_row = 0;
  std::int64_t b_column = 1;
};

struct BinaryS8Params {
  DType a_type = DType::u8;
  DType b_type = DType::u8;
  DType out_type = DType::u8;
  std::int32_t a_zero_point = 0;
  std::int32_t b_zero_point = 0;
  float a_scale = 1.0f;  // add: first scale.   mul: (a_scale * b_scale) / out_scale
  float b_scale = 1.0f;  // add: second scale.  mul: not used
  float inv_out = 1.0f;  // add: 1 / out_scale. mul: not used
  RequantBounds bounds = {0.0f, 255.0f, 0};
};

// v = float(a - za) * a_scale + float(b - zb) * b_scale (one rounding each); v * inv_out is rounded and clamped.
void add_bytes(Isa isa, const BinaryS8Params& params, const BroadcastShape& shape, const void* a, const void* b,
               void* out);
// v = float((a - za) * (b - zb)) * a_scale is rounded and clamped.
void multiply_bytes(Isa isa, const BinaryS8Params& params, const BroadcastShape& shape, const void* a, const void* b,
                    void* out);

}  // namespace aoq::cpu
