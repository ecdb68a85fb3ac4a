// Section "models": whole models, imported, quantized and run as a user would.
#include <cmath>

#include "formats/io/file.h"
#include "formats/onnx/importer.h"
#include "passes/pipeline.h"
#include "passes/quantize/calibration.h"
#include "tests/golden/fx.h"
#include "tests/golden/run.h"
#include "tests/golden/sections.h"
#include "tools/machine.h"

namespace aoq::golden {
namespace {

Result<Graph> float_model(const Case& c) {
  AOQ_ASSIGN(const std::string folder, json_string(c.args(), "directory"));
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file,
             MappedFile::open(c.directory() + "/" + folder + "/float.onnx"));
  onnx::OnnxOptions options;
  options.owner = file;
  return onnx::import_onnx(file->bytes(), options);
}

bool has_float_model(const Case& c) {
  for (const Json& note : c.args()["export"]) {
    const std::string text = note.get<std::string>();
    if (text.starts_with("not exported") || text.starts_with("onnx")) return false;
  }
  return true;
}

Status quantize(Graph& graph, const Recipe& recipe, Stage last) {
  const std::unique_ptr<TargetInfo> target = tools::make_target();
  Ranges ranges;
  PassContext context;
  context.target = target.get();
  context.recipe = &recipe;
  context.ranges = &ranges;
  PipelineOptions options;
  options.mode = recipe.mode;
  options.last = last;
  return run_pipeline(graph, context, options);
}

// The integer weights of a converted graph must be those of the case's modules, by the modules' names.
void compare_weights(Case& c, const Graph& graph) {
  int compared = 0;
  for (const Node* n : graph.nodes()) {
    const std::string name = "module." + n->scope.path + ".weight";
    if (!n->is(Op::linear) || !n->input(1)->def()->is(Op::dequantize) || !c.has_output(name.c_str())) continue;
    const Node& dequantize = *n->input(1)->def();
    c.equal(name.c_str(), *constant_tensor(dequantize.input(0)));
    const Result<double> expected = json_number(c.output_json(name.c_str()), "scale");
    const std::vector<double> scale = to_doubles(*constant_tensor(dequantize.input(1)));
    if (expected.ok()) c.equal_number(name + ".scale", static_cast<double>(static_cast<float>(*expected)), scale[0]);
    ++compared;
  }
  if (compared == 0) c.fail("no integer weight of the case was found in the graph");
}

// Every linear runs on integers, with a kernel of its own.
Status require_kernels(const Graph& graph, int linears) {
  int found = 0;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::linear)) return error(Code::check_failed, "{} runs in float: {}", n->label(), n->reason);
    found += n->is(Op::qlinear);
  }
  return found == linears ? Status() : error(Code::check_failed, "{} integer linears, expected {}", found, linears);
}

// torch.ao.quantization.quantize_dynamic with its default qconfig, on the fbgemm engine.
Status quantize_dynamic(Case& c) {
  if (!has_float_model(c)) return c.skip("the float model was not exported");
  AOQ_ASSIGN(Graph graph, float_model(c));
  Recipe recipe = default_dynamic_recipe();
  QConfig config = *recipe.global;
  config.activation.reduce_range = true;
  config.weight = {};
  config.weight.kind = "min_max";
  config.weight.dtype = DType::i8;
  config.weight.qscheme = QScheme::per_tensor_symmetric;
  recipe.global.reset();
  recipe.object_type.emplace_back("linear", config);
  AOQ_TRY(quantize(graph, recipe, Stage::quantized));
  compare_weights(c, graph);
  int linears = 0;
  for (const Node* n : graph.nodes()) linears += n->is(Op::linear);
  AOQ_TRY(quantize(graph, recipe, Stage::lowered));
  AOQ_TRY(require_kernels(graph, linears));
  AOQ_ASSIGN(const std::vector<Tensor> test, c.inputs("test"));
  AOQ_ASSIGN(const Tensor y, run_on_cpu(std::move(graph), test));
  c.equal_relative(c.output_json("y")[0], y, 1e-5, static_cast<std::size_t>(y.element_count()));
  return {};
}

constexpr OpRunner kRunners[] = {
    {"quantize_dynamic", quantize_dynamic, {}},
    {"fx_quantize", fx_quantize, {}},
    {"torchao_static_quantization", nullptr, "torchao's flows are not built yet"},
};

}  // namespace

const Section kModels{"models", kRunners, "no runner for this kind of model"};

}  // namespace aoq::golden
