// torchao_static_quantization: observed linears, calibrated, then each on the codes of its input and weight.
#include <cmath>

#include <fmt/format.h>

#include "formats/io/file.h"
#include "formats/onnx/importer.h"
#include "ir/interpreter.h"
#include "passes/pass.h"
#include "passes/quantize/observer.h"
#include "passes/quantize/primitives.h"
#include "tests/golden/fx.h"

namespace aoq::golden {
namespace {

struct LinearLayer {
  const Node* node = nullptr;
  std::string name;
  std::unique_ptr<Observer> activation;
};

Result<Graph> import_model(const Case& c) {
  AOQ_ASSIGN(const std::string folder, json_string(c.args(), "directory"));
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file,
             MappedFile::open(c.directory() + "/" + folder + "/float.onnx"));
  onnx::OnnxOptions options;
  options.owner = file;
  AOQ_ASSIGN(Graph graph, onnx::import_onnx(file->bytes(), options));
  PassContext context;
  AOQ_TRY(run_passes(graph, standard_rewrites(), context).status());
  return graph;
}

Result<std::unique_ptr<Observer>> affine_observer(const Case& c, Granularity granularity) {
  ObserverSpec spec;
  spec.kind = "affine_min_max";
  spec.dtype = DType::u8;
  spec.mapping = MappingType::asymmetric;
  spec.granularity = granularity;
  AOQ_ASSIGN(spec.eps, json_number(c.args(), "eps"));
  return make_observer(spec);
}

Result<std::vector<LinearLayer>> layers_of(const Case& c, const Graph& graph) {
  std::vector<LinearLayer> layers;
  for (const Node* n : graph.nodes()) {
    if (!n->is(Op::linear)) continue;
    if (n->attributes().string("activation") != "none") return error(Code::unsupported, "{} is fused", n->label());
    LinearLayer layer{n, n->scope.path, nullptr};
    AOQ_ASSIGN(layer.activation, affine_observer(c, {Granularity::Kind::tensor, 0}));
    layers.push_back(std::move(layer));
  }
  return layers;
}

Status calibrate(const Case& c, const Graph& graph, std::vector<LinearLayer>& layers) {
  ReferenceExecutor executor;
  AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph));
  Tap tap;
  for (const LinearLayer& layer : layers) tap.values.push_back(layer.node->input(0));
  tap.callback = [&](const Value& v, TensorView view) -> Status {
    for (LinearLayer& layer : layers) {
      if (layer.node->input(0) == &v) AOQ_TRY(layer.activation->observe(view));
    }
    return {};
  };
  // The observers were still attached when the float model saw the test input.
  Json batches = c.input_json("calibration");
  batches.push_back(c.input_json("test"));
  for (const Json& batch : batches) {
    std::vector<Tensor> inputs;
    for (const Json& info : batch) {
      AOQ_ASSIGN(Tensor t, c.tensor(info));
      inputs.push_back(std::move(t));
    }
    AOQ_TRY(executable->run(inputs, tap).status());
    // A graph's own input has no node that makes it.
    for (LinearLayer& layer : layers) {
      if (layer.node->input(0)->def()->is(Op::input)) AOQ_TRY(layer.activation->observe(inputs[0].view()));
    }
  }
  return {};
}

// Codes equal but for a step in a layer that reads float sums.
void compare_codes(Case& c, const std::string& key, const Tensor& found, bool is_first) {
  if (is_first) return c.equal(key.c_str(), found);
  const Result<Tensor> expected = c.output(key.c_str());
  if (!expected.ok()) return c.fail(std::string(expected.status().message()));
  const std::vector<double> a = to_doubles(*expected), b = to_doubles(found);
  for (std::size_t i = 0; i < a.size() && a.size() == b.size(); ++i) {
    if (std::fabs(a[i] - b[i]) > 1) return c.fail(fmt::format("{}: element {} is {}, expected {}", key, i, b[i], a[i]));
  }
  if (a.size() != b.size()) c.fail(key + ": sizes differ");
}

Result<Tensor> run_layer(Case& c, const LinearLayer& layer, const Tensor& x, bool is_first) {
  const Tensor& w = *constant_tensor(layer.node->input(1));
  AOQ_ASSIGN(const std::unique_ptr<Observer> weight, affine_observer(c, {Granularity::Kind::axis, 0}));
  AOQ_TRY(weight->observe(w.view()));
  AOQ_ASSIGN(const QParams qw, weight->qparams());
  AOQ_ASSIGN(const QParams qx, layer.activation->qparams());
  const std::vector<std::int64_t> block{1, w.shape()[1]};
  AOQ_ASSIGN(const Tensor wq, quantize_affine(w.view(), block, qw));
  AOQ_ASSIGN(const Tensor xq, quantize_affine(x.view(), x.shape(), qx));
  AOQ_ASSIGN(const Tensor wd, dequantize_affine(wq.view(), block, qw, DType::f32));
  AOQ_ASSIGN(const Tensor xd, dequantize_affine(xq.view(), x.shape(), qx, DType::f32));
  const auto key = [&](const char* what) { return layer.name + "." + what; };
  c.equal(key("weight_scale").c_str(), qw.scale);
  c.equal(key("weight_zero_point").c_str(), qw.zero_point);
  c.equal(key("q_weight").c_str(), wq);
  c.equal(key("dq_weight").c_str(), wd);
  if (is_first) {
    c.equal(key("act_scale").c_str(), qx.scale);
    c.equal(key("dq_input").c_str(), xd);
  } else {
    AOQ_ASSIGN(const Tensor scale, c.output(key("act_scale").c_str()));
    const double expected = to_doubles(scale)[0];
    if (std::fabs(static_cast<double>(qx.scale[0]) - expected) > 1e-5 * expected) c.fail(key("act_scale") + " differs");
  }
  c.equal(key("act_zero_point").c_str(), qx.zero_point);
  compare_codes(c, key("q_input"), xq, is_first);
  std::vector<Tensor> inputs{xd, wd};
  if (layer.node->input(2) != nullptr) inputs.push_back(*constant_tensor(layer.node->input(2)));
  AOQ_ASSIGN(std::vector<Tensor> y, evaluate_node(*layer.node, inputs));
  return std::move(y[0]);
}

}  // namespace

Status torchao_static(Case& c) {
  AOQ_ASSIGN(const Graph graph, import_model(c));
  AOQ_ASSIGN(std::vector<LinearLayer> layers, layers_of(c, graph));
  if (layers.empty()) return error(Code::invalid_data, "the model has no linear layer");
  AOQ_TRY(calibrate(c, graph, layers));
  AOQ_ASSIGN(const std::vector<Tensor> test, c.inputs("test"));
  Tensor x = test[0];
  for (std::size_t i = 0; i < layers.size(); ++i) {
    AOQ_ASSIGN(x, run_layer(c, layers[i], x, i == 0));
    const std::string key = layers[i].name + ".y";
    c.equal_relative(c.output_json(key.c_str()), x, 1e-5, static_cast<std::size_t>(x.element_count()));
  }
  c.equal_relative(c.output_json("y"), x, 1e-5, static_cast<std::size_t>(x.element_count()));
  return {};
}

}  // namespace aoq::golden
