#include "backends/cpu/kernels/elementwise_f32.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

template <typename Compute>
void map(const float* x, float* out, std::int64_t n, Compute compute) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) store(out + i, compute(load(x + i)));
  if (i < n) store_first(out + i, compute(load_first(x + i, n - i)), n - i);
}

void map_activation(const UnaryF32& p, const float* x, float* out, std::int64_t n) {
  F32x8 a(p.a);
  F32x8 b(p.b);
  switch (p.op) {
    case UnaryOp::clamp:
      return map(x, out, n, [=](F32x8 v) { return math::clamp_fn(v, a, b); });
    case UnaryOp::hardswish:
      return map(x, out, n, [](F32x8 v) { return math::hardswish_fn(v); });
    case UnaryOp::hardsigmoid:
      return map(x, out, n, [=](F32x8 v) { return math::hardsigmoid_fn(v, a, b); });
    case UnaryOp::sigmoid:
      return map(x, out, n, [](F32x8 v) { return math::sigmoid_fn(v); });
    case UnaryOp::tanh:
      return map(x, out, n, [](F32x8 v) { return math::tanh_fn(v); });
    case UnaryOp::silu:
      return map(x, out, n, [](F32x8 v) { return math::silu_fn(v); });
    case UnaryOp::gelu_erf:
      return map(x, out, n, [](F32x8 v) { return math::gelu_erf_fn(v); });
    case UnaryOp::gelu_tanh:
      return map(x, out, n, [](F32x8 v) { return math::gelu_tanh_fn(v); });
    case UnaryOp::erf:
      return map(x, out, n, [](F32x8 v) { return math::erf_fn(v); });
    case UnaryOp::exp:
      return map(x, out, n, [](F32x8 v) { return math::exp_fn(v); });
    case UnaryOp::log:
      return map(x, out, n, [](F32x8 v) { return math::log_fn(v); });
    case UnaryOp::softplus:
      return map(x, out, n, [](F32x8 v) { return math::softplus_fn(v); });
    default:
      return map(x, out, n, [](F32x8 v) { return math::relu_fn(v); });
  }
}

template <typename Compute>
void map_pairs(const BroadcastShape& s, const float* a, const float* b, float* out, Compute compute) {
  for (std::int64_t row = 0; row < s.rows; ++row, out += s.columns) {
    const float* x = a + row * s.a_row;
    const float* y = b + row * s.b_row;
    for (std::int64_t i = 0; i < s.columns; i += 8) {
      std::int64_t left = s.columns - i;
      F32x8 first = s.a_column == 0 ? F32x8(*x) : load_first(x + i, left);
      F32x8 second = s.b_column == 0 ? F32x8(*y) : load_first(y + i, left);
      store_first(out + i, compute(first, second), left);
    }
  }
}

}  // namespace

void unary_f32_avx2(const UnaryF32& p, const float* x, float* out, std::int64_t n) {
  F32x8 a(p.a);
  F32x8 b(p.b);
  F32x8 one(1.0f);
  F32x8 zero(0.0f);
  switch (p.op) {
    case UnaryOp::leaky_relu:
      return map(x, out, n, [=](F32x8 v) { return select(less(v, zero), v * a, v); });
    case UnaryOp::sqrt:
      return map(x, out, n, [](F32x8 v) { return sqrt_of(v); });
    case UnaryOp::reciprocal:
      return map(x, out, n, [=](F32x8 v) { return one / v; });
    case UnaryOp::reciprocal_sqrt:
      return map(x, out, n, [=](F32x8 v) { return one / sqrt_of(v); });
    case UnaryOp::negate:
      return map(x, out, n, [](F32x8 v) { return F32x8(_mm256_xor_ps(v.v, _mm256_set1_ps(-0.0f))); });
    case UnaryOp::absolute:
      return map(x, out, n, [](F32x8 v) { return abs_of(v); });
    case UnaryOp::square:
      return map(x, out, n, [](F32x8 v) { return v * v; });
    case UnaryOp::floor:
      return map(x, out, n, [](F32x8 v) { return F32x8(_mm256_floor_ps(v.v)); });
    case UnaryOp::ceil:
      return map(x, out, n, [](F32x8 v) { return F32x8(_mm256_ceil_ps(v.v)); });
    case UnaryOp::round_half_even:
      return map(x, out, n,
                 [](F32x8 v) { return F32x8(_mm256_round_ps(v.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); });
    case UnaryOp::add_multiply:
      return map(x, out, n, [=](F32x8 v) { return v * a + b; });
    default:
      return map_activation(p, x, out, n);
  }
}

void binary_f32_avx2(BinaryOp op, const BroadcastShape& s, const float* a, const float* b, float* out) {
  switch (op) {
    case BinaryOp::add:
      return map_pairs(s, a, b, out, [](F32x8 x, F32x8 y) { return x + y; });
    case BinaryOp::subtract:
      return map_pairs(s, a, b, out, [](F32x8 x, F32x8 y) { return x - y; });
    case BinaryOp::multiply:
      return map_pairs(s, a, b, out, [](F32x8 x, F32x8 y) { return x * y; });
    case BinaryOp::divide:
      return map_pairs(s, a, b, out, [](F32x8 x, F32x8 y) { return x / y; });
    case BinaryOp::minimum:
      return map_pairs(s, a, b, out, [](F32x8 x, F32x8 y) { return minimum_of(x, y); });
    case BinaryOp::maximum:
      return map_pairs(s, a, b, out, [](F32x8 x, F32x8 y) { return maximum_of(x, y); });
  }
}

}  // namespace aoq::cpu
