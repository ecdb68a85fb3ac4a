#include "docs/examples/fx/limited_linear.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "formats/json/json.h"
#include "ir/dynamic_qparams.h"
#include "ir/region.h"
#include "passes/fx/custom_module.h"

namespace acme {

namespace {

using namespace aoq;

constexpr float kLimit = 2.0f;

std::span<const float> floats(const TensorView& v) {
  return {reinterpret_cast<const float*>(v.data), static_cast<std::size_t>(v.element_count())};
}
std::span<float> floats(const MutableTensorView& v) {
  return {reinterpret_cast<float*>(v.data), static_cast<std::size_t>(v.element_count())};
}

// W x + b of real numbers, whatever they were stored as; weights [out, in].
std::vector<float> linear(std::span<const float> x, std::span<const float> w, std::span<const float> b) {
  const std::size_t out = b.size(), in = w.size() / out, rows = x.size() / in;
  std::vector<float> y(rows * out);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t o = 0; o < out; ++o) {
      float sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += x[r * in + k] * w[o * in + k];
      y[r * out + o] = sum + b[o];
    }
  }
  return y;
}

void limit(std::vector<float>& y, std::size_t out) {
  for (std::size_t row = 0; row < y.size(); row += out) {
    float largest = 0;
    for (std::size_t o = 0; o < out; ++o) largest = std::max(largest, std::fabs(y[row + o]));
    if (largest <= kLimit) continue;
    for (std::size_t o = 0; o < out; ++o) y[row + o] *= kLimit / largest;
  }
}

// Codes and one scale of each output channel back to weights.
std::vector<float> weights(const TensorView& codes, const TensorView& scale) {
  const auto* q = reinterpret_cast<const std::int8_t*>(codes.data);
  const std::size_t in = static_cast<std::size_t>(codes.shape[1]);
  std::vector<float> w(static_cast<std::size_t>(codes.element_count()));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(q[i]) * floats(scale)[i / in];
  return w;
}

// Every form's first result; `weight` is the input that holds [out, in].
Result<Type> result_type(const InferContext& c) {
  if (!c.has(2) || c.input(0).shape.empty() || c.input(1).shape.size() != 2) {
    return error(Code::invalid_model, "expected x, a weight matrix and a bias");
  }
  if (c.input(0).shape.back() != c.input(1).shape[1]) {
    return error(Code::invalid_model, "x is {}, the weight {}", to_string(c.input(0)), to_string(c.input(1)));
  }
  Type t;
  t.shape = c.input(0).shape;
  t.shape.back() = c.input(1).shape[0];
  return t;
}

Result<std::vector<Type>> infer_float(const InferContext& c) {
  AOQ_ASSIGN(Type t, result_type(c));
  return std::vector<Type>{t};
}
Result<std::vector<Type>> infer_observed(const InferContext& c) {
  AOQ_ASSIGN(Type t, result_type(c));
  return std::vector<Type>{t, t};
}

Status run_float(const EvalContext& c) {
  std::vector<float> y = linear(floats(c.inputs[0]), floats(c.inputs[1]), floats(c.inputs[2]));
  if (c.outputs.size() > 1) std::copy(y.begin(), y.end(), floats(c.outputs[1]).begin());
  limit(y, static_cast<std::size_t>(c.inputs[2].element_count()));
  std::copy(y.begin(), y.end(), floats(c.outputs[0]).begin());
  return {};
}

// x, codes of the weight, their scales, bias.
Status run_weight_only(const EvalContext& c) {
  std::vector<float> y = linear(floats(c.inputs[0]), weights(c.inputs[1], c.inputs[2]), floats(c.inputs[3]));
  limit(y, static_cast<std::size_t>(c.inputs[3].element_count()));
  std::copy(y.begin(), y.end(), floats(c.outputs[0]).begin());
  return {};
}

Status run_dynamic(const EvalContext& c) {
  const std::span<const float> x = floats(c.inputs[0]);
  const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
  if (lo == x.end()) return {};
  const TensorQParams q = choose_quantization_params(*lo, *hi, {.range = {0, 255}});
  std::vector<float> rounded(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto scale = static_cast<float>(q.scale), zero = static_cast<float>(q.zero_point);
    rounded[i] = (std::clamp(std::nearbyint(x[i] / scale) + zero, 0.0f, 255.0f) - zero) * scale;
  }
  std::vector<float> y = linear(rounded, weights(c.inputs[1], c.inputs[2]), floats(c.inputs[3]));
  limit(y, static_cast<std::size_t>(c.inputs[3].element_count()));
  std::copy(y.begin(), y.end(), floats(c.outputs[0]).begin());
  return {};
}

struct Scales {
  double x_scale = 1, y_scale = 1;
  std::int64_t x_zero = 0, y_zero = 0;
};

Result<Scales> scales_of(const Attributes& attributes) {
  AOQ_ASSIGN(const Json json, parse_json(attributes.string("settings")));
  Scales s;
  AOQ_ASSIGN(s.x_scale, json_number(json, "x_scale"));
  AOQ_ASSIGN(s.y_scale, json_number(json, "y_scale"));
  AOQ_ASSIGN(s.x_zero, json_integer(json, "x_zero_point"));
  AOQ_ASSIGN(s.y_zero, json_integer(json, "y_zero_point"));
  return s;
}

Result<std::vector<Type>> infer_quantized(const InferContext& c) {
  AOQ_ASSIGN(const Scales s, scales_of(c.attributes));
  AOQ_ASSIGN(Type t, result_type(c));
  t.dtype = DType::u8;
  t.quantization = Quantization{};
  t.quantization->scale = static_cast<float>(s.y_scale);
  t.quantization->zero_point = static_cast<std::int32_t>(s.y_zero);
  return std::vector<Type>{t};
}

Status run_quantized(const EvalContext& c) {
  AOQ_ASSIGN(const Scales s, scales_of(c.attributes));
  const auto* codes = reinterpret_cast<const std::uint8_t*>(c.inputs[0].data);
  std::vector<float> x(static_cast<std::size_t>(c.inputs[0].element_count()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(codes[i] - s.x_zero) * static_cast<float>(s.x_scale);
  }
  std::vector<float> y = linear(x, weights(c.inputs[1], c.inputs[2]), floats(c.inputs[3]));
  limit(y, static_cast<std::size_t>(c.inputs[3].element_count()));
  auto* out = reinterpret_cast<std::uint8_t*>(c.outputs[0].data);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const float q = std::nearbyint(y[i] / static_cast<float>(s.y_scale)) + static_cast<float>(s.y_zero);
    out[i] = static_cast<std::uint8_t>(std::clamp(q, 0.0f, 255.0f));
  }
  return {};
}

// ---- from one form to the next

Result<fx::ObservedForm::Made> from_float(const fx::RegionState& form, const QConfig& qconfig) {
  return fx::ObservedForm::Made{form, {qconfig.activation}};
}

// Dynamic and weight-only modules have nothing to learn.
Result<fx::ObservedForm::Made> from_float_unobserved(const fx::RegionState& form, const QConfig&) {
  return fx::ObservedForm::Made{form, {}};
}

// The weight as codes by the qconfig's weight observer, with its scales.
Result<fx::RegionState> with_codes(const fx::RegionState& form, const QConfig& qconfig, std::string settings) {
  if (form.constants.size() != 2) return error(Code::invalid_argument, "expected a weight and a bias");
  const Tensor& weight = form.constants[0].tensor;
  AOQ_ASSIGN(const std::unique_ptr<Observer> observer, make_observer(qconfig.weight));
  AOQ_TRY(observer->observe(weight.view()));
  AOQ_ASSIGN(const QParams q, observer->qparams());
  AOQ_ASSIGN(Tensor codes, Tensor::make(DType::i8, weight.shape()));
  AOQ_ASSIGN(Tensor scale, Tensor::make(DType::f32, {weight.shape()[0]}));
  const std::size_t in = static_cast<std::size_t>(weight.shape()[1]);
  for (std::size_t i = 0; i < weight.as<float>().size(); ++i) {
    const float s = q.scale[q.scale.size() == 1 ? 0 : i / in];
    scale.mutable_as<float>()[i / in] = s;
    codes.mutable_as<std::int8_t>()[i] =
        static_cast<std::int8_t>(std::clamp(std::nearbyint(weight.as<float>()[i] / s), -128.0f, 127.0f));
  }
  return fx::RegionState{std::move(settings),
                         {{"weight", codes}, {"weight.scale", scale}, {"bias", form.constants[1].tensor}}};
}

Result<fx::RegionState> quantize_static(const fx::RegionState& form, const fx::QuantizedForm::Learnt& learnt) {
  if (learnt.input == nullptr || learnt.output == nullptr) {
    return error(Code::invalid_argument, "needs the scales of what comes in and goes out");
  }
  const Json settings{{"x_scale", static_cast<double>(learnt.input->scale[0])},
                      {"x_zero_point", learnt.input->zero_point[0]},
                      {"y_scale", static_cast<double>(learnt.output->scale[0])},
                      {"y_zero_point", learnt.output->zero_point[0]}};
  return with_codes(form, learnt.qconfig, dump_json(settings));
}

Result<fx::RegionState> quantize_weights(const fx::RegionState& form, const fx::QuantizedForm::Learnt& learnt) {
  return with_codes(form, learnt.qconfig, {});
}

}  // namespace

Status register_limited_linear() {
  AOQ_TRY(register_region({"acme.LimitedLinear", "Linear with limited rows.", infer_float, run_float}));
  AOQ_TRY(register_region({"acme.ObservedLimitedLinear", "With the unlimited value.", infer_observed, run_float}));
  AOQ_TRY(register_region({"acme.UnobservedLimitedLinear", "The float form again.", infer_float, run_float}));
  AOQ_TRY(register_region({"acme.QuantizedLimitedLinear", "On codes.", infer_quantized, run_quantized}));
  AOQ_TRY(register_region({"acme.DynamicLimitedLinear", "Dynamic int8.", infer_float, run_dynamic}));
  AOQ_TRY(register_region({"acme.WeightOnlyLimitedLinear", "Weight-only int8.", infer_float, run_weight_only}));
  AOQ_TRY(fx::register_observed_form({"acme.ObservedLimitedLinear", from_float}));
  AOQ_TRY(fx::register_observed_form({"acme.UnobservedLimitedLinear", from_float_unobserved}));
  AOQ_TRY(fx::register_quantized_form({"acme.QuantizedLimitedLinear", quantize_static}));
  AOQ_TRY(fx::register_quantized_form({"acme.DynamicLimitedLinear", quantize_weights}));
  return fx::register_quantized_form({"acme.WeightOnlyLimitedLinear", quantize_weights});
}

}  // namespace acme
