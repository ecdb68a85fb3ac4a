#include "backends/cpu/kernels/elementwise_f32.h"

#include <cmath>

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

float binary_value(BinaryOp op, float a, float b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::subtract:
      return a - b;
    case BinaryOp::multiply:
      return a * b;
    case BinaryOp::divide:
      return a / b;
    case BinaryOp::minimum:
      return math::minimum(a, b);
    case BinaryOp::maximum:
      return math::maximum(a, b);
  }
  return a;
}

float activation_value(const UnaryF32& p, float x) {
  switch (p.op) {
    case UnaryOp::clamp:
      return math::clamp(x, p.a, p.b);
    case UnaryOp::hardswish:
      return math::hardswish(x);
    case UnaryOp::hardsigmoid:
      return math::hardsigmoid(x, p.a, p.b);
    case UnaryOp::sigmoid:
      return math::sigmoid(x);
    case UnaryOp::tanh:
      return math::tanh(x);
    case UnaryOp::silu:
      return math::silu(x);
    case UnaryOp::gelu_erf:
      return math::gelu_erf(x);
    case UnaryOp::gelu_tanh:
      return math::gelu_tanh(x);
    case UnaryOp::erf:
      return math::erf(x);
    case UnaryOp::exp:
      return math::exp(x);
    case UnaryOp::log:
      return math::log(x);
    case UnaryOp::softplus:
      return math::softplus(x);
    default:
      return math::relu(x);
  }
}

}  // namespace

float unary_value(const UnaryF32& p, float x) {
  switch (p.op) {
    case UnaryOp::leaky_relu:
      return x < 0.0f ? x * p.a : x;
    case UnaryOp::sqrt:
      return std::sqrt(x);
    case UnaryOp::reciprocal:
      return 1.0f / x;
    case UnaryOp::reciprocal_sqrt:
      return 1.0f / std::sqrt(x);
    case UnaryOp::negate:
      return -x;
    case UnaryOp::absolute:
      return std::fabs(x);
    case UnaryOp::square:
      return x * x;
    case UnaryOp::floor:
      return std::floor(x);
    case UnaryOp::ceil:
      return std::ceil(x);
    case UnaryOp::round_half_even:
      return std::nearbyint(x);
    case UnaryOp::add_multiply:
      return x * p.a + p.b;
    default:
      return activation_value(p, x);
  }
}

void unary_f32(Isa isa, const UnaryF32& params, const float* x, float* out, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx512_vnni && unary_f32_avx512(params, x, out, n)) return;
  if (isa >= Isa::avx2) return unary_f32_avx2(params, x, out, n);
#endif
  for (std::int64_t i = 0; i < n; ++i) out[i] = unary_value(params, x[i]);
}

void binary_f32(Isa isa, BinaryOp op, const BroadcastShape& s, const float* a, const float* b, float* out) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return binary_f32_avx2(op, s, a, b, out);
#endif
  for (std::int64_t row = 0; row < s.rows; ++row) {
    for (std::int64_t column = 0; column < s.columns; ++column) {
      out[row * s.columns + column] =
          binary_value(op, a[row * s.a_row + column * s.a_column], b[row * s.b_row + column * s.b_column]);
    }
  }
}

}  // namespace aoq::cpu
