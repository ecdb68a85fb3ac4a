#include "ir/math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ir/math_functions.h"

namespace aoq::math {
namespace {

// One float with the interface ir/math_functions.h asks for.
struct ScalarF32 {
  float v;
  explicit ScalarF32(float value) : v(value) {}
};

ScalarF32 operator+(ScalarF32 a, ScalarF32 b) {
  return ScalarF32(a.v + b.v);
}
ScalarF32 operator-(ScalarF32 a, ScalarF32 b) {
  return ScalarF32(a.v - b.v);
}
ScalarF32 operator*(ScalarF32 a, ScalarF32 b) {
  return ScalarF32(a.v * b.v);
}
ScalarF32 operator/(ScalarF32 a, ScalarF32 b) {
  return ScalarF32(a.v / b.v);
}
bool less(ScalarF32 a, ScalarF32 b) {
  return a.v < b.v;
}
bool equal(ScalarF32 a, ScalarF32 b) {
  return a.v == b.v;
}
ScalarF32 select(bool mask, ScalarF32 a, ScalarF32 b) {
  return mask ? a : b;
}
ScalarF32 fma_of(ScalarF32 a, ScalarF32 b, ScalarF32 c) {
  return ScalarF32(std::fma(a.v, b.v, c.v));
}
ScalarF32 abs_of(ScalarF32 x) {
  return ScalarF32(std::fabs(x.v));
}
ScalarF32 copy_sign(ScalarF32 magnitude, ScalarF32 sign) {
  return ScalarF32(std::copysign(magnitude.v, sign.v));
}

float power_of_two(std::int32_t n) {
  return std::bit_cast<float>((static_cast<std::uint32_t>(n) + 127u) << 23);
}

ScalarF32 scale_by_magic(ScalarF32 v, ScalarF32 magic) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(magic.v) - std::bit_cast<std::uint32_t>(0x1.8p23f);
  // Two halves, so that each factor is a normal float over the whole range of n.
  std::int32_t half = static_cast<std::int32_t>(bits) >> 1;
  std::int32_t rest = static_cast<std::int32_t>(bits - static_cast<std::uint32_t>(half));
  return ScalarF32((v.v * power_of_two(half)) * power_of_two(rest));
}

ScalarF32 scale_normal(ScalarF32 v, ScalarF32 magic) {
  return ScalarF32(
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(v.v) + (std::bit_cast<std::uint32_t>(magic.v) << 23)));
}

ScalarF32 split_exponent(ScalarF32 x, ScalarF32* exponent) {
  constexpr std::uint32_t kSqrtHalf = 0x3f3504f3;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(x.v) - kSqrtHalf;
  exponent->v = static_cast<float>(static_cast<std::int32_t>(bits) >> 23);
  return ScalarF32(std::bit_cast<float>((bits & 0x7fffffu) + kSqrtHalf));
}

constexpr int kLanes = 16;
struct Lanes {
  float v[kLanes];
};

Lanes all_lanes(float value) {
  Lanes lanes;
  for (float& lane : lanes.v) lane = value;
  return lanes;
}

template <typename Combine>
float combine_lanes(Lanes& lanes, Combine combine) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes.v[i] = combine(lanes.v[i], lanes.v[i + width]);
  }
  return lanes.v[0];
}

float add(float a, float b) {
  return a + b;
}

}  // namespace

float exp(float x) {
  return exp_fn(ScalarF32(x)).v;
}
float exp_weight(float x) {
  return exp_weight_fn(ScalarF32(x)).v;
}
float log(float x) {
  return log_fn(ScalarF32(x)).v;
}
float tanh(float x) {
  return tanh_fn(ScalarF32(x)).v;
}
float sigmoid(float x) {
  return sigmoid_fn(ScalarF32(x)).v;
}
float erf(float x) {
  return erf_fn(ScalarF32(x)).v;
}
float gelu_erf(float x) {
  return gelu_erf_fn(ScalarF32(x)).v;
}
float gelu_tanh(float x) {
  return gelu_tanh_fn(ScalarF32(x)).v;
}
float silu(float x) {
  return silu_fn(ScalarF32(x)).v;
}
float hardswish(float x) {
  return hardswish_fn(ScalarF32(x)).v;
}
float hardsigmoid(float x, float alpha, float beta) {
  return hardsigmoid_fn(ScalarF32(x), ScalarF32(alpha), ScalarF32(beta)).v;
}
float softplus(float x) {
  return softplus_fn(ScalarF32(x)).v;
}
float relu(float x) {
  return relu_fn(ScalarF32(x)).v;
}
float clamp(float x, float lo, float hi) {
  return clamp_fn(ScalarF32(x), ScalarF32(lo), ScalarF32(hi)).v;
}

float maximum(float a, float b) {
  if (a != a) return a;
  return a > b ? a : b;
}

float minimum(float a, float b) {
  if (a != a) return a;
  return a < b ? a : b;
}

float reduce_sum(const float* x, std::int64_t n) {
  Lanes lanes = all_lanes(0.0f);
  for (std::int64_t i = 0; i < n; ++i) lanes.v[i % kLanes] += x[i];
  return combine_lanes(lanes, add);
}

float reduce_max(const float* x, std::int64_t n) {
  Lanes lanes = all_lanes(-std::numeric_limits<float>::infinity());
  for (std::int64_t i = 0; i < n; ++i) lanes.v[i % kLanes] = maximum(lanes.v[i % kLanes], x[i]);
  return combine_lanes(lanes, maximum);
}

float dot(const float* a, const float* b, std::int64_t n) {
  Lanes lanes = all_lanes(0.0f);
  for (std::int64_t i = 0; i < n; ++i) lanes.v[i % kLanes] = std::fma(a[i], b[i], lanes.v[i % kLanes]);
  return combine_lanes(lanes, add);
}

float reduce_squared_distance(const float* x, float center, std::int64_t n) {
  Lanes lanes = all_lanes(0.0f);
  for (std::int64_t i = 0; i < n; ++i) {
    float d = x[i] - center;
    lanes.v[i % kLanes] = std::fma(d, d, lanes.v[i % kLanes]);
  }
  return combine_lanes(lanes, add);
}

void softmax_row(const float* x, float* out, std::int64_t n) {
  float max = reduce_max(x, n);
  for (std::int64_t i = 0; i < n; ++i) out[i] = exp(x[i] - max);
  float sum = reduce_sum(out, n);
  for (std::int64_t i = 0; i < n; ++i) out[i] = out[i] / sum;
}

void layer_norm_row(const float* x, float* out, std::int64_t n, const LayerNormParams& params) {
  float mean = reduce_sum(x, n) / static_cast<float>(n);
  float variance = reduce_squared_distance(x, mean, n) / static_cast<float>(n);
  float inverse = 1.0f / std::sqrt(variance + params.epsilon);
  for (std::int64_t i = 0; i < n; ++i) {
    float y = (x[i] - mean) * inverse;
    if (params.scale != nullptr) y = y * params.scale[i];
    if (params.bias != nullptr) y = y + params.bias[i];
    out[i] = y;
  }
}

}  // namespace aoq::math
