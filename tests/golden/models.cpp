// Section "models": whole models, imported, quantized and run as a user would.
#include <cmath>

#include "formats/io/file.h"
#include "formats/onnx/importer.h"
#include "passes/pipeline.h"
#include "passes/quantize/calibration.h"
#include "tests/golden/fx.h"
#include "tests/golden/module_chain.h"
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

bool is_float_form(const Node& n) {
  return n.is(Op::linear) || n.is(Op::lstm) || n.is(Op::gru) || n.is(Op::rnn);
}

// Every layer that was asked for runs on integers, with a kernel of its own.
Status require_kernels(const Graph& graph, int layers) {
  int found = 0;
  for (const Node* n : graph.nodes()) {
    if (is_float_form(*n) && n->requested == "int8") {
      return error(Code::check_failed, "{} runs in float: {}", n->label(), n->reason);
    }
    found += n->is(Op::qlinear) || n->is(Op::qlstm) || n->is(Op::qgru) || n->is(Op::qrnn);
  }
  return found == layers ? Status() : error(Code::check_failed, "{} integer layers, expected {}", found, layers);
}

// torch.ao.quantization.quantize_dynamic's qconfigs, on the fbgemm engine.
QConfig dynamic_config() {
  QConfig config = *default_dynamic_recipe().global;
  config.activation.reduce_range = true;
  config.weight = {};
  config.weight.kind = "min_max";
  config.weight.dtype = DType::i8;
  config.weight.qscheme = QScheme::per_tensor_symmetric;
  return config;
}

QConfig float16_config() {
  QConfig config = dynamic_config();
  config.activation.dtype = DType::f32;
  config.weight.kind = "placeholder";
  config.weight.dtype = DType::f16;
  return config;
}

Recipe without_rules() {
  Recipe recipe = default_dynamic_recipe();
  recipe.global.reset();
  return recipe;
}

struct Lowered {
  Graph graph;
  int layers = 0;  // that were asked to be integers
};

// Through the quantized stage, whose integer weights are compared where the case has them.
enum class CompareWeights : std::uint8_t { no, yes };
Result<Lowered> lowered(Case& c, Graph graph, const Recipe& recipe, CompareWeights compare) {
  AOQ_TRY(quantize(graph, recipe, Stage::quantized));
  if (compare == CompareWeights::yes) compare_weights(c, graph);
  int layers = 0;
  for (const Node* n : graph.nodes()) layers += is_float_form(*n) && n->requested == "int8";
  AOQ_TRY(quantize(graph, recipe, Stage::lowered));
  AOQ_TRY(require_kernels(graph, layers));
  return Lowered{std::move(graph), layers};
}

Status compare_y(Case& c, Graph graph) {
  AOQ_ASSIGN(const std::vector<Tensor> test, c.inputs("test"));
  AOQ_ASSIGN(const Tensor y, run_on_cpu(std::move(graph), test));
  c.equal_relative(c.output_json("y")[0], y, 1e-5, static_cast<std::size_t>(y.element_count()));
  return {};
}

// Each layer on its recorded input, then the whole model.
Status quantize_chain(Case& c) {
  AOQ_ASSIGN(const std::vector<ChainModule> modules, read_chain(c));
  Recipe recipe = without_rules();
  bool has_integers = false;
  for (const ChainModule& m : modules) {
    if (m.is_dynamic) recipe.module_name.emplace_back(m.name, m.is_float16 ? float16_config() : dynamic_config());
    has_integers = has_integers || (m.is_dynamic && m.type == "Linear" && !m.is_float16);
  }
  for (const ChainModule& m : modules) {
    const std::optional<RecordedLayer> recorded = recorded_layer(c, m.name);
    if (!recorded) continue;
    AOQ_ASSIGN(Graph graph, layer_graph(c, m, *recorded));
    // The layer alone: rules for the others would match nothing.
    Recipe own = recipe;
    std::erase_if(own.module_name, [&](const QConfigRule& rule) { return rule.first != m.name; });
    AOQ_ASSIGN(Lowered layer, lowered(c, std::move(graph), own, CompareWeights::no));
    if (m.is_dynamic && !m.is_float16 && layer.layers == 0) c.fail(m.name + " has no integer layer");
    AOQ_ASSIGN(const Tensor y, run_on_cpu(std::move(layer.graph), {recorded->input}));
    const Json& expected = c.output_json(("layer." + m.name).c_str())[1];
    c.equal_relative(expected, y, 1e-5, static_cast<std::size_t>(y.element_count()));
  }
  AOQ_ASSIGN(Graph graph, chain_graph(c, modules));
  const CompareWeights compare = has_integers ? CompareWeights::yes : CompareWeights::no;
  AOQ_ASSIGN(Lowered whole, lowered(c, std::move(graph), recipe, compare));
  return compare_y(c, std::move(whole.graph));
}

// torch.ao.quantization.quantize_dynamic.
Status quantize_dynamic(Case& c) {
  if (!has_float_model(c)) return quantize_chain(c);
  AOQ_ASSIGN(Graph graph, float_model(c));
  Recipe recipe = without_rules();
  for (const char* op : {"linear", "lstm", "gru", "rnn"}) recipe.object_type.emplace_back(op, dynamic_config());
  AOQ_ASSIGN(Lowered whole, lowered(c, std::move(graph), recipe, CompareWeights::yes));
  return compare_y(c, std::move(whole.graph));
}

constexpr OpRunner kRunners[] = {
    {"quantize_dynamic", quantize_dynamic, {}},
    {"fx_quantize", fx_quantize, {}},
    {"torchao_static_quantization", torchao_static, {}},
};

}  // namespace

const Section kModels{"models", kRunners, "no runner for this kind of model"};

}  // namespace aoq::golden
