// Activations on vectors of floats, for AVX2 and AVX-512 translation units only.
#pragma once

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

template <typename F>
inline F apply_activation_to(const ActivationParams& params, F x) {
  switch (params.kind) {
    case Activation::none:
      return x;
    case Activation::clamp:
      return math::clamp_fn(x, F(params.a), F(params.b));
    case Activation::hardswish:
      return math::hardswish_fn(x);
    case Activation::hardsigmoid:
      return math::hardsigmoid_fn(x, F(params.a), F(params.b));
    case Activation::sigmoid:
      return math::sigmoid_fn(x);
    case Activation::tanh:
      return math::tanh_fn(x);
    case Activation::silu:
      return math::silu_fn(x);
    case Activation::gelu_erf:
      return math::gelu_erf_fn(x);
    case Activation::gelu_tanh:
      return math::gelu_tanh_fn(x);
  }
  return x;
}

// Hardswish of numbers below 2^60 that are not NaN, whose result is only told apart from 0 where it is normal: the
// division by 6 is a product that is corrected once, which gives the quotient rounded as division does, but for
// subnormal ones.
template <typename F>
inline F hardswish_of_normal(F x) {
  const F sixth(1.0f / 6.0f);
  x = larger_of(x, F(-3.0f));
  const F product = x * smaller_of(x + F(3.0f), F(6.0f));  // x + 3 is not below 0 any more
  const F quotient = product * sixth;
  return fma_of(fma_of(quotient, F(-6.0f), product), sixth, quotient);
}

inline F32x8 apply_activation_x8(const ActivationParams& params, F32x8 x) {
  return apply_activation_to(params, x);
}

}  // namespace
}  // namespace aoq::cpu
