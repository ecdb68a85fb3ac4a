// Activations that compute kernels apply to their float result. The texts are those of ir/math.h.
#pragma once

#include <cstdint>

namespace aoq::cpu {

enum class Activation : std::uint8_t {
  none,
  clamp,  // also relu: lo = 0, hi = infinity
  hardswish,
  hardsigmoid,  // a = alpha, b = beta
  sigmoid,
  tanh,
  silu,
  gelu_erf,
  gelu_tanh,
};

struct ActivationParams {
  Activation kind = Activation::none;
  float a = 0.0f;  // clamp: lo
  float b = 0.0f;  // clamp: hi
};

// The definition, for one float.
float apply_activation(const ActivationParams& params, float x);

}  // namespace aoq::cpu
