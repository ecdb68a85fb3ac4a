#include "backends/cpu/kernels/rows_f32.h"

#include <limits>

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

float reduce_row(ReduceOp op, const float* x, std::int64_t n) {
  if (op == ReduceOp::max) return math::reduce_max(x, n);
  float sum = math::reduce_sum(x, n);
  return op == ReduceOp::mean ? sum / static_cast<float>(n) : sum;
}

float reduce_column(ReduceOp op, const float* x, std::int64_t n, std::int64_t stride) {
  constexpr std::int64_t kLanes = 16;
  float lanes[kLanes];
  bool is_max = op == ReduceOp::max;
  for (float& lane : lanes) lane = is_max ? -std::numeric_limits<float>::infinity() : 0.0f;
  for (std::int64_t i = 0; i < n; ++i) {
    float& lane = lanes[i % kLanes];
    lane = is_max ? math::maximum(lane, x[i * stride]) : lane + x[i * stride];
  }
  // Sixteen lanes in order are one more row of the same reduction.
  float all = is_max ? math::reduce_max(lanes, kLanes) : math::reduce_sum(lanes, kLanes);
  return op == ReduceOp::mean ? all / static_cast<float>(n) : all;
}

}  // namespace

void softmax_f32(Isa isa, const RowsF32& rows) {
  softmax_scores_f32(isa, {}, rows);
}

void softmax_scores_f32(Isa isa, const ScoresF32& scores, const RowsF32& rows) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx512_vnni) return softmax_scores_f32_avx512(scores, rows);
  if (isa >= Isa::avx2) return softmax_scores_f32_avx2(scores, rows);
#endif
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const float* x = rows.x + row * rows.columns;
    float* out = rows.out + row * rows.columns;
    for (std::int64_t i = 0; i < rows.columns; ++i) {
      float v = x[i];
      if (scores.has_scale) v = v * scores.scale;
      if (scores.has_divisor) v = v / scores.divisor;
      if (scores.mask != nullptr) v = v + scores.mask[row * scores.mask_row + i * scores.mask_column];
      out[i] = v;
    }
    math::softmax_row(out, out, rows.columns);
  }
}

void layer_norm_f32(Isa isa, const math::LayerNormParams& params, const RowsF32& rows) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx512_vnni) return layer_norm_f32_avx512(params, rows);
  if (isa >= Isa::avx2) return layer_norm_f32_avx2(params, rows);
#endif
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    math::layer_norm_row(rows.x + row * rows.columns, rows.out + row * rows.columns, rows.columns, params);
  }
}

void reduce_last_f32(Isa isa, ReduceOp op, const RowsF32& rows) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return reduce_last_f32_avx2(op, rows);
#endif
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    rows.out[row] = reduce_row(op, rows.x + row * rows.columns, rows.columns);
  }
}

void reduce_middle_f32(Isa isa, ReduceOp op, const MiddleF32& shape) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return reduce_middle_f32_avx2(op, shape);
#endif
  for (std::int64_t outer = 0; outer < shape.outer; ++outer) {
    for (std::int64_t inner = 0; inner < shape.inner; ++inner) {
      shape.out[outer * shape.inner + inner] =
          reduce_column(op, shape.x + outer * shape.middle * shape.inner + inner, shape.middle, shape.inner);
    }
  }
}

}  // namespace aoq::cpu
