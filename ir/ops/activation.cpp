#include "ir/ops/activation.h"

#include "ir/math.h"

namespace aoq::ops {

namespace {

struct Row {
  std::string_view name;
  Activation::Kind kind;
  float (*function)(float, Parameters);
};

constexpr Row kRows[] = {
    {"none", Activation::Kind::none, nullptr},
    {"relu", Activation::Kind::relu, [](float x, Parameters) { return math::relu(x); }},
    {"clamp", Activation::Kind::clamp, [](float x, Parameters p) { return math::clamp(x, p.a, p.b); }},
    {"hardswish", Activation::Kind::other, [](float x, Parameters) { return math::hardswish(x); }},
    {"hardsigmoid", Activation::Kind::other, [](float x, Parameters p) { return math::hardsigmoid(x, p.a, p.b); }},
    {"leaky_relu", Activation::Kind::other, [](float x, Parameters p) { return x < 0 ? p.a * x : x; }},
    {"gelu", Activation::Kind::other, [](float x, Parameters) { return math::gelu_erf(x); }},
    {"gelu_tanh", Activation::Kind::other, [](float x, Parameters) { return math::gelu_tanh(x); }},
    {"silu", Activation::Kind::other, [](float x, Parameters) { return math::silu(x); }},
    {"sigmoid", Activation::Kind::other, [](float x, Parameters) { return math::sigmoid(x); }},
    {"tanh", Activation::Kind::other, [](float x, Parameters) { return math::tanh(x); }},
};

}  // namespace

Result<Activation> read_activation(const Attributes& attributes) {
  const std::string& name = attributes.string("activation");
  double min = attributes.real("activation_min");
  double max = attributes.real("activation_max");
  if (std::isnan(min) || std::isnan(max)) return error(Code::invalid_model, "an activation bound is NaN");
  for (const Row& row : kRows) {
    if (row.name != name) continue;
    if (row.kind == Activation::Kind::clamp && min > max) {
      return error(Code::invalid_model, "activation_min {} is above activation_max {}", min, max);
    }
    if (row.kind == Activation::Kind::other && !(std::isfinite(min) && std::isfinite(max))) {
      return error(Code::invalid_model, "activation {} has parameters {} and {}, expected finite numbers", name, min,
                   max);
    }
    return Activation{row.kind, row.function, {static_cast<float>(min), static_cast<float>(max)}};
  }
  return error(Code::invalid_model, "unknown activation \"{}\"", name);
}

}  // namespace aoq::ops
