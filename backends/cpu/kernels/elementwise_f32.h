// f32 elementwise kernels. Texts are those of ir/math.h; what is not there is one IEEE operation.
#pragma once

#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/binary_s8.h"

namespace aoq::cpu {

enum class UnaryOp : std::uint8_t {
  relu,
  clamp,       // a = lo, b = hi
  leaky_relu,  // x < 0 ? x * a : x
  hardswish,
  hardsigmoid,  // a = alpha, b = beta
  sigmoid,
  tanh,
  silu,
  gelu_erf,
  gelu_tanh,
  erf,
  exp,
  log,
  softplus,
  sqrt,
  reciprocal,       // 1 / x
  reciprocal_sqrt,  // 1 / sqrt(x)
  negate,
  absolute,
  square,
  floor,
  ceil,
  round_half_even,
  add_multiply,  // x * a + b, two roundings
};

struct UnaryF32 {
  UnaryOp op = UnaryOp::relu;
  float a = 0.0f;
  float b = 0.0f;
};

// Any piece [0, n) of a tensor; `out` may be `x`.
void unary_f32(Isa isa, const UnaryF32& params, const float* x, float* out, std::int64_t n);
// The definition, for one float.
float unary_value(const UnaryF32& params, float x);

enum class BinaryOp : std::uint8_t { add, subtract, multiply, divide, minimum, maximum };

// Any piece of rows of `shape`; `out` may be an operand of the same shape.
void binary_f32(Isa isa, BinaryOp op, const BroadcastShape& shape, const float* a, const float* b, float* out);

}  // namespace aoq::cpu
