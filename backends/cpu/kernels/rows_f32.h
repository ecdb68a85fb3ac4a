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

// What becomes of the scores of attention before their softmax: x * scale / divisor + mask, each where it is there, in
// this order.
struct ScoresF32 {
  bool has_scale = false;
  bool has_divisor = false;
  float scale = 1.0f;
  float divisor = 1.0f;
  const float* mask = nullptr;   // of the first row and column, or null
  std::int64_t mask_row = 0;     // floats from row to row, 0 for one row
  std::int64_t mask_column = 0;  // 1, or 0 for one column
  bool is_plain() const { return !has_scale && !has_divisor && mask == nullptr; }
};
// math::softmax_row of such scores; `out` may be `x`.
void softmax_scores_f32(Isa isa, const ScoresF32& scores, const RowsF32& rows);

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
