// Our float numerics: the functions and reductions that every float kernel equals bit for bit.
//
// The functions are within a few ulp of the exact result, keep NaN, and are right at infinities and denormals; their
// text is ir/math_functions.h, which the vector kernels instantiate too. NaN results are equal as NaN, not as bits.
//
// Reductions go over 16 lanes: lane i takes elements i, i + 16, i + 32, ... in order, starting from the neutral
// element; then lane i takes lane i + 8, then i + 4, i + 2, i + 1. Vector widths 4, 8 and 16 all give this order for
// free.
#pragma once

#include <cstdint>

namespace aoq::math {

float exp(float x);
float exp_weight(float x);  // of x up to 0, to 2^-18: weights of attention in int8
float log(float x);
float tanh(float x);
float sigmoid(float x);
float erf(float x);
float gelu_erf(float x);
float gelu_tanh(float x);
float silu(float x);
float hardswish(float x);                             // x * clamp(x + 3, 0, 6) / 6
float hardsigmoid(float x, float alpha, float beta);  // clamp(alpha * x + beta, 0, 1)
float softplus(float x);
float relu(float x);                       // -0 stays -0
float clamp(float x, float lo, float hi);  // lo first, then hi
float maximum(float a, float b);           // NaN if either is; a > b ? a : b
float minimum(float a, float b);

float reduce_sum(const float* x, std::int64_t n);
float reduce_max(const float* x, std::int64_t n);  // maximum(lane, x) from -infinity
float dot(const float* a, const float* b, std::int64_t n);
// Sum of (x - center)^2: d = x - center, lane = fma(d, d, lane).
float reduce_squared_distance(const float* x, float center, std::int64_t n);

// y = exp(x - max) / sum. `out` may be `x`.
void softmax_row(const float* x, float* out, std::int64_t n);

// mean = sum / n, variance = squared distance / n, y = ((x - mean) * (1 / sqrt(variance + epsilon))) * scale + bias.
// `scale` and `bias` may be null; `out` may be `x`.
struct LayerNormParams {
  const float* scale = nullptr;
  const float* bias = nullptr;
  float epsilon = 1e-5f;
};
void layer_norm_row(const float* x, float* out, std::int64_t n, const LayerNormParams& params);

}  // namespace aoq::math
