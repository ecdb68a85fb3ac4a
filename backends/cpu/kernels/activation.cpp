#include "backends/cpu/kernels/activation.h"

#include "ir/math.h"

namespace aoq::cpu {

float apply_activation(const ActivationParams& params, float x) {
  switch (params.kind) {
    case Activation::none:
      return x;
    case Activation::clamp:
      return math::clamp(x, params.a, params.b);
    case Activation::hardswish:
      return math::hardswish(x);
    case Activation::hardsigmoid:
      return math::hardsigmoid(x, params.a, params.b);
    case Activation::sigmoid:
      return math::sigmoid(x);
    case Activation::tanh:
      return math::tanh(x);
    case Activation::silu:
      return math::silu(x);
    case Activation::gelu_erf:
      return math::gelu_erf(x);
    case Activation::gelu_tanh:
      return math::gelu_tanh(x);
  }
  return x;
}

}  // namespace aoq::cpu
