// Static quantization with a configuration of one's own: observed linears, calibrated, become quantized ones.
//
// StaticQuantConfig is no part of aoq: the handler below says what it learns from data and what a layer becomes.
#include "docs/examples/torchao/example.h"
#include "passes/quantize/arithmetic.h"
#include "passes/quantize/primitives.h"

namespace nn = aoq::nn;
namespace torchao = aoq::torchao;

struct ToyLinearModel : nn::Module {
  nn::Linear linear1{at("linear1"), 64, 64, nn::Bias::without};
  nn::Linear linear2{at("linear2"), 64, 32, nn::Bias::without};
  const char* type_name() const override { return "ToyLinearModel"; }
  nn::Proxy forward(const nn::Proxy& x) override { return linear2(linear1(x)); }
};

// The lowest and highest element of all inputs of a layer.
class MinMax : public torchao::InputObserver {
 public:
  aoq::Status observe(aoq::TensorView x) override {
    AOQ_ASSIGN(const std::vector<float> values, aoq::to_floats(x));
    dtype_ = x.dtype;
    for (float v : values) {
      min_ = is_empty_ ? v : std::min(min_, v);
      max_ = is_empty_ ? v : std::max(max_, v);
      is_empty_ = false;
    }
    return {};
  }
  // u8, affine, in the arithmetic of the inputs' type.
  aoq::Result<aoq::QParams> qparams() const {
    const aoq::AffineFormula formula{
        aoq::MappingType::asymmetric, aoq::DType::u8, {0, 255}, 0x1p-23f, dtype_, true, false};
    return aoq::choose_qparams_affine_with_min_max(formula, {&min_, 1}, {&max_, 1});
  }

 private:
  float min_ = 0, max_ = 0;
  bool is_empty_ = true;
  aoq::DType dtype_ = aoq::DType::f32;
};

aoq::Result<std::unique_ptr<torchao::InputObserver>> observe(const torchao::Config&, const torchao::LinearSite&) {
  return std::unique_ptr<torchao::InputObserver>(std::make_unique<MinMax>());
}

aoq::Result<torchao::Quantized> quantize(const torchao::Config&, const torchao::LinearSite& site,
                                         torchao::InputObserver* observer) {
  torchao::QuantizedWeight w;
  w.dtype = site.weight.dtype;
  // One scale for each output; scales are f32, so codes are computed in f32.
  w.block_size = {1, site.weight.shape[1]};
  const aoq::AffineFormula formula{
      aoq::MappingType::asymmetric, aoq::DType::u8, {0, 255}, 0x1p-23f, w.dtype, true, false};
  AOQ_ASSIGN(w.qparams, aoq::choose_qparams_affine(formula, site.weight, w.block_size));
  AOQ_ASSIGN(const std::vector<float> values, aoq::to_floats(site.weight));
  AOQ_ASSIGN(const aoq::Tensor wide, example::float_tensor(site.weight.shape, values));
  AOQ_ASSIGN(w.codes, aoq::quantize_affine(wide.view(), w.block_size, w.qparams));
  AOQ_ASSIGN(const aoq::QParams input, dynamic_cast<MinMax*>(observer)->qparams());
  torchao::ActivationQuantization activation;
  activation.dtype = aoq::DType::u8;
  activation.mapping = aoq::MappingType::asymmetric;
  activation.granularity = {aoq::Granularity::Kind::tensor, 0};
  activation.fixed = aoq::TensorQParams{static_cast<double>(input.scale[0]), input.zero_point[0]};
  activation.fixed_dtype = aoq::DType::f32;
  w.activation = activation;
  return torchao::Quantized{std::move(w), {}};
}

// Both layers on tensors, in the model's own type.
aoq::Tensor run_layers(const aoq::Graph& graph, const torchao::Config& config, const std::vector<aoq::Tensor>& data,
                       aoq::Tensor x) {
  std::vector<aoq::Tensor> batches = data;
  for (const aoq::Node* n : graph.nodes()) {
    if (!n->is(aoq::Op::linear)) continue;
    const torchao::LinearSite site{n->scope.path, aoq::constant_tensor(n->input(1))->view(), nullptr};
    MinMax observer;
    for (aoq::Tensor& batch : batches) {
      example::check(observer.observe(batch.view()));
      batch = example::float_linear(batch, site.weight);
    }
    const torchao::Quantized q = example::check(torchao::quantize_weight(config, site, &observer));
    const torchao::QuantizedWeight& w = *q.weight;
    fmt::print("  {}: input scale {:.9g}, zero point {}\n", site.name, w.activation->fixed->scale,
               w.activation->fixed->zero_point);
    fmt::print("    weight scales {:.9g} {:.9g}, zero points {} {}, codes {} {} {} {}, sum {}\n", w.qparams.scale[0],
               w.qparams.scale[1], w.qparams.zero_point[0], w.qparams.zero_point[1],
               aoq::load_integer(aoq::DType::u8, w.codes.bytes().data(), 0),
               aoq::load_integer(aoq::DType::u8, w.codes.bytes().data(), 1),
               aoq::load_integer(aoq::DType::u8, w.codes.bytes().data(), 2),
               aoq::load_integer(aoq::DType::u8, w.codes.bytes().data(), 3), example::sum_of_codes(w.codes));
    x = example::check(torchao::linear(w, x.view(), nullptr));
  }
  return x;
}

void run_in(aoq::DType dtype) {
  fmt::print("{}\n", aoq::dtype_name(dtype));
  ToyLinearModel model;
  example::check(model.to(dtype));
  example::randomize(model, 1, dtype);
  aoq::Type type;
  type.dtype = dtype;
  type.shape = {aoq::Dim(8), aoq::Dim(64)};
  aoq::Graph graph = example::check(nn::symbolic_trace(model, {"x", type}));
  std::vector<aoq::Tensor> data;
  for (std::uint64_t i = 0; i < 3; ++i) data.push_back(example::random_tensor({8, 64}, 10 + i, dtype));
  const aoq::Tensor x = example::random_tensor({8, 64}, 20, dtype);

  torchao::Config config;
  config.type = "StaticQuantConfig";
  const aoq::Tensor exact = example::run(graph, x);
  const aoq::Tensor by_layers = run_layers(graph, config, data, x);
  example::Batches batches(data);
  torchao::ModelOptions options;
  options.data = &batches;
  const std::vector<torchao::LayerReport> layers = example::check(torchao::quantize(graph, config, options));
  fmt::print("{}", torchao::print_report(layers));
  for (const aoq::Node* n : graph.nodes()) {
    if (!n->def().has_trait(aoq::kStructural)) fmt::print("  {} {}\n", n->scope.path, n->def().name);
  }
  example::print_error("the model", example::relative_error(exact, example::run(graph, x)), 0.05);
  example::print_error("layer by layer", example::relative_error(exact, by_layers), 0.05);
}

int main() {
  torchao::Handler handler;
  handler.type = "StaticQuantConfig";
  handler.doc = "u8 inputs and weights, affine, with scales that are learnt from data";
  handler.observe = observe;
  handler.quantize = quantize;
  example::check(torchao::register_handler(std::move(handler)));
  run_in(aoq::DType::f32);
  run_in(aoq::DType::bf16);
  return 0;
}
