// The one definition of what a lowered integer op computes after its exact int32 accumulation.
//
//   acc  = sum over k of (x[k] - x_zero_point) * w[k]                          exact, int32
//   v    = (float(acc) + b) * m                                               b = bias / (x_scale * w_scale), m below
//   v    = v + float(r - r_zero_point) * r_m                                  only with a residual input r
//   v    = activation(v) * inv_out                                            only with an activation that is no clamp
//   q    = int(round_half_even(clamp(v, lo, hi))) + out_zero_point            lo = qmin - zp, hi = qmax - zp
//
// Every operation is one float rounding in this order. Without a (non-clamp) activation m = (x_scale * w_scale) /
// out_scale and r_m = r_scale / out_scale; with one, m = x_scale * w_scale, r_m = r_scale and inv_out = 1 / out_scale.
// Clamp-like activations (relu, relu6, clamp) only narrow [qmin, qmax]. With a float result there is no out_scale:
//
//   y    = float(acc) * (x_scale * w_scale) + bias, then + residual, then the activation
//
// The order with b divided by the scales is FBGEMM's. NaN never reaches a clamp: scales and bias are checked finite.
#pragma once

#include <cmath>
#include <cstdint>

namespace aoq {

struct RequantBounds {
  float lo;  // (qmin - zero_point), narrowed by clamp-like activations; both bounds are small integers
  float hi;
  std::int32_t zero_point;
};

// The last line of the definition above.
inline std::int32_t round_and_clamp(float v, const RequantBounds& bounds) {
  float clamped = v < bounds.lo ? bounds.lo : v;
  clamped = clamped > bounds.hi ? bounds.hi : clamped;
  return static_cast<std::int32_t>(std::nearbyintf(clamped)) + bounds.zero_point;
}

// The accumulator of a linear or convolution to an output code, without residual and without activation.
inline std::int32_t requantize(std::int32_t acc, float b, float m, const RequantBounds& bounds) {
  float v = static_cast<float>(acc) + b;
  v = v * m;
  return round_and_clamp(v, bounds);
}

// q = clamp(round_half_even(x * inv_scale) + zero_point): multiply by the reciprocal, add the zero point after
// rounding.
inline std::int32_t quantize_value(float x, float inv_scale, std::int32_t zero_point, std::int32_t qmin,
                                   std::int32_t qmax) {
  float v = x * inv_scale;
  float lo = static_cast<float>(qmin - zero_point);
  float hi = static_cast<float>(qmax - zero_point);
  if (!(v >= lo)) v = lo;  // also NaN
  if (v > hi) v = hi;
  return static_cast<std::int32_t>(std::nearbyintf(v)) + zero_point;
}

inline float dequantize_value(std::int32_t q, float scale, std::int32_t zero_point) {
  return static_cast<float>(q - zero_point) * scale;
}

}  // namespace aoq
