#include "passes/fx/workflow.h"

#include <doctest/doctest.h>

#include <cmath>

#include "formats/aoq/aoq.h"
#include "formats/json/json.h"
#include "ir/interpreter.h"
#include "ir/nn/recurrent.h"
#include "ir/nn/region_module.h"
#include "ir/region.h"
#include "ir/text.h"
#include "passes/fx/custom_module.h"
#include "passes/fx/qat.h"
#include "passes/quantize/primitives.h"
#include "passes/quantize/quantize.h"

namespace aoq {
namespace {

Type floats(std::vector<Dim> shape) {
  Type t;
  t.shape = std::move(shape);
  return t;
}

Tensor waves(std::vector<std::int64_t> shape, float phase = 0) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  float i = phase;
  for (float& x : t.mutable_as<float>()) x = std::sin(i += 0.7f);
  return t;
}

struct Waves : CalibrationData {
  explicit Waves(std::vector<std::int64_t> s) : shape(std::move(s)) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (count == 3) return false;
    batch = {waves(shape, static_cast<float>(count++))};
    return true;
  }
  std::vector<std::int64_t> shape;
  int count = 0;
};

void fill(nn::Module& m) {
  float phase = 0;
  for (const auto& [name, p] : m.parameters()) REQUIRE(p->set(waves(p->tensor().shape(), phase++)).ok());
}

struct Mlp : nn::Module {
  nn::Linear a{at("a"), 4, 4}, b{at("b"), 4, 4};
  nn::Linear c{at("c"), 4, 4};
  const char* type_name() const override { return "Mlp"; }
  nn::Proxy forward(const nn::Proxy& x) override { return c(nn::F::relu(b(a(x)))); }
};

Graph traced(nn::Module& m, std::vector<Dim> shape = {2, 4}) {
  fill(m);
  return nn::symbolic_trace(m, {"x", floats(std::move(shape))}).value();
}

Result<Graph> prepared(nn::Module& m, const char* json) {
  Graph graph = traced(m);
  AOQ_ASSIGN(const Recipe recipe, parse_recipe(json));
  QuantizeOptions options;
  options.last = Stage::prepared;
  AOQ_TRY(quantize(graph, recipe, options));
  return graph;
}

std::string kind_behind(const Graph& graph, const std::string& module) {
  for (const Node* n : graph.nodes()) {
    if (!n->is(Op::observe) || n->input(0)->def()->scope.path != module || n->scope.callee == "module") continue;
    if (n->input(0)->def()->is(Op::constant)) continue;
    return parse_observer_spec(n->attributes().string("spec")).value().kind;
  }
  return "none";
}

TEST_CASE("recipes of the FX workflow are written as they are read") {
  const char* text = R"({
    "backend": "qnnpack", "qat": true, "global": "default_qconfig",
    "module_name_object_type_order": [["", "Linear", 1, null], ["block", "F.linear", 0, "qnnpack"]],
    "non_traceable_module_name": ["head"], "non_traceable_module_class": ["Router"],
    "custom_modules": [{"mode": "dynamic", "float": "A", "observed": "B", "quantized": "C"}],
    "quantized_inputs": [{"index": 0, "scale": "0x1p-4", "zero_point": 3}], "quantized_outputs": [0],
    "preserved_attributes": ["vocabulary"], "standalone_module_name": [["tail", {"backend": "x86"}]]})";
  const Recipe recipe = parse_recipe(text).value();
  CHECK(recipe.backend == "qnnpack");
  CHECK(recipe.module_name_object_type_order.size() == 2);
  CHECK(recipe.custom.quantized_inputs[0].scale == 0.0625);
  const std::string printed = print_recipe(recipe);
  CHECK(print_recipe(parse_recipe(printed).value()) == printed);
}

TEST_CASE("backend configurations are data") {
  for (const std::string& name : fx::backend_names()) {
    const fx::BackendConfig config = fx::backend_config(name).value();
    const Json json = fx::backend_config_to_json(config);
    CHECK(fx::backend_config_from_json(json).value() == config);
  }
  CHECK(fx::backend_config("tpu").status().message().find("known: native, fbgemm") != std::string::npos);
  // A backend that takes linear layers only, given in the recipe.
  Mlp m;
  const Graph graph = prepared(m, R"({"global": "x86", "backend": {"name": "small", "patterns": [
    {"pattern": [["Linear"]], "observation": "different",
     "dtypes": [{"input": {"dtype": "u8"}, "output": {"dtype": "u8"}, "weight": {"dtype": "i8"}}]}]}})")
                          .value();
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::relu)) CHECK(n->reason == "the backend small has no pattern for F.relu");
  }
}

TEST_CASE("wrong recipes are refused with what is wrong") {
  auto message = [](const char* json) { return std::string(parse_recipe(json).status().message()); };
  CHECK(message(R"({"backend": "tpu"})").find("\"tpu\" is no backend") != std::string::npos);
  CHECK(message(R"({"global": "fbgem"})").find("\"fbgem\" is no qconfig; known: default_dynamic_qconfig") !=
        std::string::npos);
  CHECK(message(R"({"quantized_outputs": [0]})").find("name a \"backend\"") != std::string::npos);
  CHECK(message(R"({"backend": "x86", "module_name_object_type_order": [["a", "Linear"]]})")
            .find("expected [module, type, index, qconfig]") != std::string::npos);
  CHECK(message(R"({"backend": {"patterns": [{"observation": "different"}]}})").find("without \"pattern\"") !=
        std::string::npos);
  CHECK(message(R"({"backend": "x86", "quantized_inputs": [{"index": 0, "scale": "-0x1p0", "zero_point": 0}]})")
            .find("expected a positive number") != std::string::npos);
}

TEST_CASE("precedence: order, module name, regex, object type, global") {
  struct Case {
    const char* json;
    const char* kind;
  };
  const Case cases[] = {
      {R"({"backend": "x86"})", "histogram"},
      {R"({"backend": "x86", "object_type": [["Linear", "default_qconfig"], ["ReLU", "default_qconfig"]]})", "min_max"},
      {R"({"backend": "x86", "object_type": [["Linear", null], ["ReLU", null]], "module_name_regex": [["a.*", "default_qconfig"]]})",
       "min_max"},
      {R"({"backend": "x86", "module_name_regex": [["a", null]], "module_name": [["a", "default_qconfig"]]})",
       "min_max"},
      {R"({"backend": "x86", "module_name": [["a", null]],
           "module_name_object_type_order": [["", "Linear", 0, "default_qconfig"]]})",
       "min_max"},
      {R"({"backend": "x86", "module_name_object_type_order": [["", "Linear", 1, "default_qconfig"]]})", "histogram"},
  };
  for (const Case& c : cases) {
    Mlp m;
    CHECK_MESSAGE(kind_behind(prepared(m, c.json).value(), "a") == c.kind, c.json);
  }
}

TEST_CASE("members of a fused module need one qconfig") {
  struct Fused : nn::Module {
    nn::Linear fc{at("fc"), 4, 4};
    nn::ReLU act{at("act")};
    nn::Proxy forward(const nn::Proxy& x) override { return act(fc(x)); }
  } m;
  const Status status = prepared(m, R"({"backend": "x86", "object_type": [["Linear", "default_qconfig"]]})").status();
  CHECK(status.message().find("\"fc\" and \"act\" are fused into one module") != std::string::npos);
}

TEST_CASE("a method relu is not fused and shares its input's observer") {
  struct Method : nn::Module {
    nn::Linear fc{at("fc"), 4, 4};
    nn::Proxy forward(const nn::Proxy& x) override { return fc(x).relu(); }
  } m;
  const Graph graph = prepared(m, R"({"backend": "x86"})").value();
  CHECK(fx::print_fx(graph).find("call_method | relu | relu | (activation_post_process_1)\n") != std::string::npos);
  std::vector<std::string> observers;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::observe) && n->scope.callee != "module" && n->origins[0].starts_with("activation")) {
      observers.push_back(n->attributes().string("observer"));
    }
  }
  CHECK(observers == std::vector<std::string>{"activation_post_process_0", "activation_post_process_1",
                                              "activation_post_process_1"});
}

TEST_CASE("residual add and relu are one pattern") {
  struct Residual : nn::Module {
    nn::Linear fc{at("fc"), 4, 4};
    nn::Proxy forward(const nn::Proxy& x) override { return nn::F::relu(fc(x) + x); }
  } m;
  const Graph graph = prepared(m, R"({"backend": "x86"})").value();
  CHECK(fx::print_fx(graph).find("call_function | relu | relu | (add)\n") != std::string::npos);
}

TEST_CASE("a standalone module has a recipe of its own, with its own paths") {
  struct Outer : nn::Module {
    struct Tail : nn::Module {
      using Module::Module;
      nn::Linear fc{at("fc"), 4, 4};
      nn::Proxy forward(const nn::Proxy& x) override { return fc(x); }
    } tail{at("tail")};
    nn::Linear head{at("head"), 4, 4};
    nn::Proxy forward(const nn::Proxy& x) override { return tail(head(x)); }
  } m;
  const Graph graph = prepared(m, R"({"backend": "x86", "standalone_module_name": [
    ["tail", {"backend": "x86", "module_name": [["fc", "default_qconfig"]]}]]})")
                          .value();
  CHECK(kind_behind(graph, "head") == "histogram");
  CHECK(kind_behind(graph, "tail.fc") == "min_max");
  CHECK(prepared(m, R"({"backend": "x86", "standalone_module_name": [["tial", {"backend": "x86"}]]})")
            .status()
            .message()
            .find("no module \"tial\"") != std::string::npos);
}

TEST_CASE("unknown names of leaves and attributes are errors") {
  Mlp m;
  auto message = [&](const char* json) { return std::string(prepared(m, json).status().message()); };
  CHECK(message(R"({"backend": "x86", "non_traceable_module_name": ["d"]})").find("no module \"d\"") !=
        std::string::npos);
  CHECK(message(R"({"backend": "x86", "non_traceable_module_class": ["Gate"]})").find("no module of class \"Gate\"") !=
        std::string::npos);
  CHECK(message(R"({"backend": "x86", "preserved_attributes": ["labels"]})").find("no attribute \"labels\"") !=
        std::string::npos);
  CHECK(message(R"({"backend": "x86", "quantized_outputs": [3]})").find("3 is no result") != std::string::npos);
}

TEST_CASE("attributes of the model travel with it") {
  Mlp m;
  fill(m);
  const std::map<std::string, std::string> attributes{
      {"title", "Cats \"and\" dogs,\nby Zoé"}, {"threshold", "0.25"}, {"labels", R"(["cat", "dog", {"id": 3}])"}};
  nn::TraceOptions trace;
  trace.attributes = attributes;
  Graph graph = nn::symbolic_trace(m, {"x", floats({2, 4})}, trace).value();
  Waves data({2, 4});
  QuantizeOptions options;
  options.data = &data;
  const Recipe recipe =
      parse_recipe(R"({"backend": "x86", "preserved_attributes": ["title", "threshold", "labels"]})").value();
  const auto has_all = [&](const Graph& g) {
    for (const auto& [key, value] : attributes) CHECK(g.metadata.at(key) == value);
  };
  for (const Stage last : {Stage::prepared, Stage::quantized, Stage::lowered}) {
    options.last = last;
    REQUIRE(quantize(graph, recipe, options).ok());
    has_all(graph);
  }
  const GraphText text = print_text(graph);
  has_all(parse_text(text.text, text.constants).value());
  const auto file = std::make_shared<const std::vector<std::byte>>(write_aoq(graph).value());
  const Graph again = read_aoq(*file, file).value();
  has_all(again);
  CHECK(parse_json(again.metadata.at("labels")).value()[2]["id"] == 3);
}

TEST_CASE("a custom class without its forms is an error that names the module, before calibration") {
  struct Model : nn::Module {
    nn::RegionModule part{at("part"), "Part", "fx_test.part"};
    nn::Proxy forward(const nn::Proxy& x) override { return part(x); }
  } m;
  RegionClass region;
  region.name = "fx_test.part";
  region.infer = [](const InferContext& c) -> Result<std::vector<Type>> { return std::vector<Type>{c.input(0)}; };
  region.reference = [](const EvalContext&) -> Status { return {}; };
  REQUIRE(register_region(region).ok());
  const char* json = R"({"backend": "x86", "custom_modules": [
    {"mode": "static", "float": "fx_test.part", "observed": "fx_test.observed", "quantized": "fx_test.quantized"}]})";
  Status status = prepared(m, json).status();
  CHECK(status.message().find("module \"part\": the observed form \"fx_test.observed\" is not registered") !=
        std::string::npos);
  region.name = "fx_test.observed";
  REQUIRE(register_region(region).ok());
  fx::ObservedForm form{"fx_test.observed",
                        [](const fx::RegionState& s, const QConfig&) -> Result<fx::ObservedForm::Made> {
                          return fx::ObservedForm::Made{s, {}};
                        }};
  REQUIRE(fx::register_observed_form(form).ok());
  CHECK(fx::register_observed_form(form).code() == Code::invalid_argument);
  status = prepared(m, json).status();
  CHECK(status.message().find("module \"part\": the quantized form \"fx_test.quantized\"") != std::string::npos);
}

TEST_CASE("quantize_dynamic takes types or names and refuses what is not there") {
  Mlp m;
  Graph graph = traced(m);
  CHECK(quantize_dynamic(graph, {"Lnear"}).code() == Code::not_found);
  CHECK(quantize_dynamic(graph, {}, DType::u8).code() == Code::invalid_argument);
  REQUIRE(quantize_dynamic(graph, {"b"}).ok());
  int integer = 0, real = 0;
  for (const Node* n : graph.nodes()) {
    integer += n->is(Op::qlinear);
    real += n->is(Op::linear);
  }
  CHECK(integer == 1);
  CHECK(real == 2);
  Graph all = traced(m);
  REQUIRE(quantize_dynamic(all, {"Linear"}).ok());
  for (const Node* n : all.nodes()) CHECK_FALSE(n->is(Op::linear));
}

TEST_CASE("quantize_weight_only turns tables into rows") {
  struct Table : nn::Module {
    nn::Embedding embedding{at("embedding"), 7, 8};
    nn::Proxy forward(const nn::Proxy& i) override { return embedding(i); }
  } m;
  fill(m);
  Type ids;
  ids.dtype = DType::i64;
  ids.shape = {3};
  Graph graph = nn::symbolic_trace(m, {"i", ids}).value();
  REQUIRE(quantize_weight_only(graph).ok());
  bool found = false;
  for (const Node* n : graph.nodes()) found = found || n->is(Op::qembedding);
  CHECK(found);
}

TEST_CASE("fake quantization rounds to codes and back, per channel too") {
  const Tensor x =
      Tensor::from_values(DType::f32, {2, 2}, std::span<const float>(std::vector<float>{0.3f, -5, 0.26f, 9})).value();
  QParams q;
  q.scale = {0.5f, 0.25f};
  q.zero_point = {0, 0};
  q.axis = 0;
  q.range = {-4, 3};
  const Tensor y = fake_quantize_tensor(x.view(), q).value();
  CHECK(std::vector<float>(y.as<float>().begin(), y.as<float>().end()) == std::vector<float>{0.5f, -2, 0.25f, 0.75f});
  q.scale = {1, 1, 1};
  q.zero_point = {0, 0, 0};
  CHECK_FALSE(fake_quantize_tensor(x.view(), q).ok());
}

TEST_CASE("training observes batches, keeps running statistics and folds them") {
  struct Net : nn::Module {
    nn::Conv2d conv{at("conv"), 2, 3, {3}};
    nn::BatchNorm2d bn{at("bn"), 3};
    nn::Proxy forward(const nn::Proxy& x) override { return nn::F::relu(bn(conv(x))); }
  } m;
  fill(m);
  for (float& v : const_cast<Tensor&>(m.bn.running_var.tensor()).mutable_as<float>()) v = std::fabs(v) + 0.5f;
  Graph graph = nn::symbolic_trace(m, {"x", floats({2, 2, 6, 6})}).value();
  const Recipe recipe = fx::fx_qat_recipe("fbgemm").value();
  Ranges ranges;
  QuantizeOptions options;
  options.ranges = &ranges;
  options.last = Stage::prepared;
  REQUIRE(quantize(graph, recipe, options).ok());
  fx::QatForward forward = fx::QatForward::make(graph, ranges).value();
  CHECK(forward.step(std::vector<Tensor>{waves({1})}).status().code() == Code::invalid_data);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(forward.step(std::vector<Tensor>{waves({2, 2, 6, 6}, static_cast<float>(i))}).ok());
  }
  REQUIRE(forward.finish().ok());
  for (const Node* n : graph.nodes()) CHECK_FALSE(n->is(Op::batch_norm));
  CHECK(ranges.observers.contains("conv.weight"));
  options.last = Stage::lowered;
  REQUIRE(quantize(graph, recipe, options).ok());
  bool found = false;
  for (const Node* n : graph.nodes()) found = found || n->is(Op::qconv);
  CHECK(found);
}

}  // namespace
}  // namespace aoq
