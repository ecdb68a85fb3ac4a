// f32 kernels over rows: softmax, layer normalisation and reductions, equal to ir/math.h bit for bit.
#pragma once

#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "ir/math.h"

namespace aoq::cpu {

// Any piece of rows; contiguous, `columns` values each.
struct RowsF32 {
  const float* x = nullptr;
  float* out = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

// math::softmax_row and math::layer_norm_row; `out` may be `x`.
void softmax_f32(Isa isa, const RowsF32& rows);
void layer_norm_f32(Isa isa, const math::LayerNormParams& params, const RowsF32& rows);

enum class ReduceOp : std::uint8_t { sum, mean, max };

// out[row] = math::reduce_sum, that divided by float(columns), or math::reduce_max.
void reduce_last_f32(Isa isa, ReduceOp op, const RowsF32& rows);

// x is [outer, middle, inner], out is [outer, inner]: the same reduction of the `middle` values of each column.
struct MiddleF32 {
  const float* x = nullptr;
  float* out = nullptr;
  std::int64_t outer = 1;
  std::int64_t middle = 0;
  std::int64_t inner = 0;
};
void reduce_middle_f32(Isa isa, ReduceOp op, const MiddleF32& shape);

}  // namespace aoq::cpu
