// The custom modules that the golden cases use, as regions with their forms.
#include <cmath>
#include <mutex>

#include <fmt/format.h>

#include "formats/json/json.h"
#include "ir/interpreter.h"
#include "ir/region.h"
#include "passes/fx/custom_module.h"
#include "passes/quantize/weights.h"
#include "tests/golden/fx_model.h"

namespace aoq::golden {
namespace {

Result<std::vector<Type>> infer_same(const InferContext& c) {
  Type t = c.input(0);
  t.quantization.reset();
  return std::vector<Type>{t};
}

Status non_traceable(const EvalContext& c) {
  const auto* x = reinterpret_cast<const float*>(c.inputs[0].data);
  auto* y = reinterpret_cast<float*>(c.outputs[0].data);
  for (std::int64_t i = 0; i < c.outputs[0].element_count(); ++i) y[i] = std::tanh(x[i]) * 2.0f;
  return {};
}

// x, weight, bias.
Result<std::vector<Type>> infer_linear(const InferContext& c) {
  if (!c.has(1) || c.input(0).shape.empty()) return error(Code::invalid_model, "needs x, a weight and a bias");
  Type t = c.input(0);
  t.quantization.reset();
  t.dtype = DType::f32;
  t.shape.back() = c.input(1).shape[0];
  return std::vector<Type>{t};
}

Result<Tensor> tensor_of(const TensorView& v) {
  return Tensor::copy_of(v.dtype, {v.shape.begin(), v.shape.end()},
                         {v.data, static_cast<std::size_t>(v.element_count() * dtype_info(v.dtype).bits / 8)});
}

// The op computed by the product's own reference on constants.
Result<Tensor> evaluate(Op op, const EvalContext& c, std::size_t inputs, Attributes attributes) {
  Graph graph;
  std::vector<Value*> values;
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < inputs; ++i) {
    AOQ_ASSIGN(Tensor t, tensor_of(c.inputs[i]));
    tensors.push_back(t);
    values.push_back(graph.constant(std::move(t)));
  }
  AOQ_ASSIGN(Node * n, graph.create(op, values, std::move(attributes)));
  AOQ_ASSIGN(std::vector<Tensor> out, evaluate_node(*n, tensors));
  return std::move(out[0]);
}

void copy(const Tensor& from, const MutableTensorView& to) {
  std::copy(from.bytes().begin(), from.bytes().end(), to.data);
}

Status linear(const EvalContext& c) {
  AOQ_ASSIGN(const Tensor y, evaluate(Op::linear, c, 3, {}));
  for (const MutableTensorView& out : c.outputs) copy(y, out);
  return {};
}

Result<std::vector<Type>> infer_observed_linear(const InferContext& c) {
  AOQ_ASSIGN(std::vector<Type> types, infer_linear(c));
  types.push_back(types[0]);
  return types;
}

struct Scales {
  double x_scale, out_scale;
  std::int64_t x_zero_point, out_zero_point;
};

Result<Scales> scales_of(const Attributes& attributes) {
  AOQ_ASSIGN(const Json json, parse_json(attributes.string("settings")));
  Scales s{};
  AOQ_ASSIGN(s.x_scale, json_number(json, "x_scale"));
  AOQ_ASSIGN(s.out_scale, json_number(json, "out_scale"));
  AOQ_ASSIGN(s.x_zero_point, json_integer(json, "x_zero_point"));
  AOQ_ASSIGN(s.out_zero_point, json_integer(json, "out_zero_point"));
  return s;
}

// Codes x, weight codes, weight scales, bias.
Result<std::vector<Type>> infer_quantized_linear(const InferContext& c) {
  AOQ_ASSIGN(const Scales s, scales_of(c.attributes));
  AOQ_ASSIGN(std::vector<Type> types, infer_linear(c));
  types[0].dtype = DType::u8;
  types[0].quantization = Quantization{};
  types[0].quantization->scale = static_cast<float>(s.out_scale);
  types[0].quantization->zero_point = static_cast<std::int32_t>(s.out_zero_point);
  return types;
}

Status quantized_linear(const EvalContext& c) {
  AOQ_ASSIGN(const Scales s, scales_of(c.attributes));
  AOQ_ASSIGN(const Tensor y, evaluate(Op::qlinear, c, 4,
                                      {{"x_scale", s.x_scale},
                                       {"x_zero_point", s.x_zero_point},
                                       {"out_dtype", DType::u8},
                                       {"out_scale", s.out_scale},
                                       {"out_zero_point", s.out_zero_point}}));
  copy(y, c.outputs[0]);
  return {};
}

Result<fx::ObservedForm::Made> observe_static(const fx::RegionState& form, const QConfig& qconfig) {
  return fx::ObservedForm::Made{form, {qconfig.activation}};
}

Result<fx::RegionState> quantize_static(const fx::RegionState& form, const fx::QuantizedForm::Learnt& learnt) {
  if (form.constants.size() != 2 || learnt.input == nullptr || learnt.observers.size() != 1) {
    return error(Code::invalid_argument, "expected a weight, a bias and one observer");
  }
  const Tensor& weight = form.constants[0].tensor;
  AOQ_ASSIGN(const IntegerWeight w, quantize_weight(weight, learnt.qconfig.weight));
  AOQ_ASSIGN(Tensor scale, Tensor::from_values(DType::f32, {static_cast<std::int64_t>(w.scale.size())},
                                               std::span<const float>(w.scale)));
  const QParams& out = learnt.observers[0];
  const Json settings{{"x_scale", static_cast<double>(learnt.input->scale[0])},
                      {"x_zero_point", learnt.input->zero_point[0]},
                      {"out_scale", static_cast<double>(out.scale[0])},
                      {"out_zero_point", out.zero_point[0]}};
  return fx::RegionState{dump_json(settings),
                         {{"weight", w.codes}, {"weight.scale", scale}, {"bias", form.constants[1].tensor}}};
}

// PyTorch leaves a dynamic custom module in float: only what it reads is quantized.
Result<fx::ObservedForm::Made> observe_dynamic(const fx::RegionState& form, const QConfig&) {
  return fx::ObservedForm::Made{form, {}};
}
Result<fx::RegionState> quantize_dynamic(const fx::RegionState& form, const fx::QuantizedForm::Learnt&) {
  return form;
}

Status register_all() {
  const std::string prefix = "model_parts.";
  AOQ_TRY(register_region({prefix + "NonTraceable", "tanh(x) * 2", infer_same, non_traceable}));
  AOQ_TRY(register_region({prefix + "CustomLinear", "linear", infer_linear, linear}));
  AOQ_TRY(register_region({prefix + "StaticObservedCustomLinear", "linear", infer_observed_linear, linear}));
  AOQ_TRY(
      register_region({prefix + "StaticQuantizedCustomLinear", "linear", infer_quantized_linear, quantized_linear}));
  AOQ_TRY(register_region({prefix + "ObservedCustomLinear", "linear", infer_linear, linear}));
  AOQ_TRY(register_region({prefix + "DynamicQuantizedCustomLinear", "linear", infer_linear, linear}));
  AOQ_TRY(fx::register_observed_form({prefix + "StaticObservedCustomLinear", observe_static}));
  AOQ_TRY(fx::register_quantized_form({prefix + "StaticQuantizedCustomLinear", quantize_static}));
  AOQ_TRY(fx::register_observed_form({prefix + "ObservedCustomLinear", observe_dynamic}));
  return fx::register_quantized_form({prefix + "DynamicQuantizedCustomLinear", quantize_dynamic});
}

}  // namespace

Status register_model_parts() {
  static std::once_flag once;
  static Status status;
  std::call_once(once, [] { status = register_all(); });
  return status.ok() ? Status() : error(Code::internal, "{}", status.message());
}

}  // namespace aoq::golden
