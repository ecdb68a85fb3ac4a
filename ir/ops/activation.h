// The activation that linear and conv (and their lowered forms) apply to their result.
#pragma once

#include "ir/ops/common.h"

namespace aoq::ops {

inline constexpr AttributeDef kActivation = {"activation", AttributeKind::string, "none",
                                             "none, relu, clamp, hardswish, hardsigmoid, leaky_relu, gelu, gelu_tanh, "
                                             "silu, sigmoid or tanh"};
inline constexpr AttributeDef kActivationMin = {"activation_min", AttributeKind::real, "0",
                                                "low bound of clamp; alpha of leaky_relu and hardsigmoid"};
inline constexpr AttributeDef kActivationMax = {"activation_max", AttributeKind::real, "0",
                                                "high bound of clamp; beta of hardsigmoid"};

struct Activation {
  // none, relu and clamp on codes only narrow the range.
  enum class Kind { none, relu, clamp, other } kind = Kind::none;
  float (*function)(float, Parameters) = nullptr;  // null for none
  Parameters parameters;

  float operator()(float x) const { return function == nullptr ? x : function(x, parameters); }
  bool is_clamp_like() const { return kind != Kind::other; }
};
Result<Activation> read_activation(const Attributes& attributes);

}  // namespace aoq::ops
