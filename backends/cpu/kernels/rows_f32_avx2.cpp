// AVX2 row kernels. Two vectors are the 16 virtual lanes of ir/math.h; lanes behind the end of a row keep their value.
#include "backends/cpu/kernels/rows_f32.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

inline F32x8 lanes_of(std::int64_t n) {
  return F32x8(_mm256_castsi256_ps(first_lanes(max_of(min_of(n, 8), 0))));
}

// lanes = step(lanes, x) over a row.
template <typename Step>
inline void fold_row(const float* x, std::int64_t n, F32x8* lanes, Step step) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    lanes[0] = step(lanes[0], load(x + i));
    lanes[1] = step(lanes[1], load(x + i + 8));
  }
  for (int half = 0; half < 2 && i < n; ++half, i += 8) {
    F32x8 next = step(lanes[half], load_first(x + i, n - i));
    lanes[half] = select(lanes_of(n - i), next, lanes[half]);
  }
}

inline float sum_of(const float* x, std::int64_t n) {
  F32x8 lanes[2] = {F32x8(0.0f), F32x8(0.0f)};
  fold_row(x, n, lanes, [](F32x8 lane, F32x8 v) { return lane + v; });
  return combine_lanes(lanes[0], lanes[1], [](F32x8 a, F32x8 b) { return a + b; });
}

inline float max_of_row(const float* x, std::int64_t n) {
  F32x8 lanes[2] = {F32x8(-__builtin_inff()), F32x8(-__builtin_inff())};
  fold_row(x, n, lanes, [](F32x8 lane, F32x8 v) { return maximum_of(lane, v); });
  return combine_lanes(lanes[0], lanes[1], [](F32x8 a, F32x8 b) { return maximum_of(a, b); });
}

inline float squared_distance(const float* x, float center, std::int64_t n) {
  F32x8 c(center);
  F32x8 lanes[2] = {F32x8(0.0f), F32x8(0.0f)};
  fold_row(x, n, lanes, [=](F32x8 lane, F32x8 v) { return fma_of(v - c, v - c, lane); });
  return combine_lanes(lanes[0], lanes[1], [](F32x8 a, F32x8 b) { return a + b; });
}

template <typename Compute>
inline void map(const float* x, float* out, std::int64_t n, Compute compute) {
  for (std::int64_t i = 0; i < n; i += 8) store_first(out + i, compute(load_first(x + i, n - i), i), n - i);
}

constexpr int kLanes = 16;

// Eight columns from x on; `left` of them exist.
template <typename Step>
inline F32x8 fold_columns(const MiddleF32& s, const float* x, std::int64_t left, F32x8 start, Step step) {
  F32x8 lanes[kLanes];
  for (F32x8& lane : lanes) lane = start;
  for (std::int64_t i = 0; i < s.middle; i += kLanes) {
    std::int64_t count = min_of(s.middle - i, kLanes);
    for (std::int64_t lane = 0; lane < count; ++lane, x += s.inner)
      lanes[lane] = step(lanes[lane], load_first(x, left));
  }
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] = step(lanes[lane], lanes[lane + width]);
  }
  return lanes[0];
}

}  // namespace

void softmax_scores_f32_avx2(const ScoresF32& scores, const RowsF32& rows) {
  std::int64_t n = rows.columns;
  F32x8 scale(scores.scale);
  F32x8 divisor(scores.divisor);
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const float* x = rows.x + row * n;
    float* out = rows.out + row * n;
    if (!scores.is_plain()) {
      const float* mask = scores.mask + row * scores.mask_row;
      map(x, out, n, [&](F32x8 v, std::int64_t i) {
        if (scores.has_scale) v = v * scale;
        if (scores.has_divisor) v = v / divisor;
        if (scores.mask == nullptr) return v;
        return v + (scores.mask_column == 0 ? F32x8(*mask) : load_first(mask + i, n - i));
      });
      x = out;
    }
    F32x8 max(max_of_row(x, n));
    map(x, out, n, [=](F32x8 v, std::int64_t) { return math::exp_fn(v - max); });
    F32x8 sum(sum_of(out, n));
    map(out, out, n, [=](F32x8 v, std::int64_t) { return v / sum; });
  }
}

void layer_norm_f32_avx2(const math::LayerNormParams& params, const RowsF32& rows) {
  std::int64_t n = rows.columns;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const float* x = rows.x + row * n;
    float mean = sum_of(x, n) / static_cast<float>(n);
    float variance = squared_distance(x, mean, n) / static_cast<float>(n);
    F32x8 inverse = F32x8(1.0f) / sqrt_of(F32x8(variance + params.epsilon));
    F32x8 center(mean);
    map(x, rows.out + row * n, n, [&](F32x8 v, std::int64_t i) {
      F32x8 y = (v - center) * inverse;
      if (params.scale != nullptr) y = y * load_first(params.scale + i, n - i);
      if (params.bias != nullptr) y = y + load_first(params.bias + i, n - i);
      return y;
    });
  }
}

void reduce_last_f32_avx2(ReduceOp op, const RowsF32& rows) {
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const float* x = rows.x + row * rows.columns;
    float value = op == ReduceOp::max ? max_of_row(x, rows.columns) : sum_of(x, rows.columns);
    rows.out[row] = op == ReduceOp::mean ? value / static_cast<float>(rows.columns) : value;
  }
}

void reduce_middle_f32_avx2(ReduceOp op, const MiddleF32& s) {
  F32x8 count(static_cast<float>(s.middle));
  for (std::int64_t outer = 0; outer < s.outer; ++outer) {
    const float* x = s.x + outer * s.middle * s.inner;
    float* out = s.out + outer * s.inner;
    for (std::int64_t c = 0; c < s.inner; c += 8) {
      std::int64_t left = s.inner - c;
      F32x8 y(0.0f);
      if (op == ReduceOp::max) {
        y = fold_columns(s, x + c, left, F32x8(-__builtin_inff()), [](F32x8 a, F32x8 b) { return maximum_of(a, b); });
      } else {
        y = fold_columns(s, x + c, left, F32x8(0.0f), [](F32x8 a, F32x8 b) { return a + b; });
      }
      store_first(out + c, op == ReduceOp::mean ? y / count : y, left);
    }
  }
}

}  // namespace aoq::cpu
