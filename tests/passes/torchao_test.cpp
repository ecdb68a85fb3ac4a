// Quantizing linear layers by torchao's configurations: names, rules, handlers, what the graph becomes, bad input.
#include <cmath>
#include <limits>
#include <numeric>

#include "ir/error_id.h"
#include "ir/interpreter.h"
#include "ir/nn/modules.h"
#include "ir/text.h"
#include "passes/pipeline.h"
#include "passes/quantize/quantize.h"
#include "passes/torchao/quantize_model.h"
#include "tests/passes/torchao_support.h"

namespace aoq::torchao {
namespace {

bool says(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string_view::npos;
}

Config config_of(const char* json) {
  Result<Config> config = parse_config(json);
  INFO(config.status().message());
  REQUIRE(config.ok());
  return std::move(*config);
}

// ---- configurations

TEST_CASE("a configuration reads back what it prints, with its defaults") {
  const Config config = config_of(R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int4"})j");
  CHECK(config.fields.dtype("weight_dtype") == DType::i4);
  CHECK(config.fields.string("granularity") == "PerAxis(0)");
  CHECK(config_of(print_config(config).c_str()) == config);
}

TEST_CASE("torchao's own JSON is read: types, dtypes, enumerations and granularities") {
  const Config config = config_of(R"j({"_type": "Int8DynamicActivationIntxWeightConfig", "_version": 2, "_data": {
      "weight_dtype": {"_type": "torch.dtype", "_data": "int4"},
      "weight_granularity": {"_type": "PerGroup", "_version": 1, "_data": {"group_size": 64}},
      "weight_mapping_type": {"_type": "MappingType", "_data": "SYMMETRIC"},
      "intx_packing_format": {"_type": "IntxPackingFormat", "_data": "UNPACKED_TO_INT8"}, "weight_scale_dtype": null}})j");
  CHECK(config.fields.dtype("weight_dtype") == DType::i4);
  CHECK(granularity_field(config, "weight_granularity").value() == Granularity{Granularity::Kind::group, 64});
  CHECK(mapping_field(config, "weight_mapping_type").value() == MappingType::symmetric);
}

TEST_CASE("unknown types, fields and values are named, with the nearest known one") {
  CHECK(says(parse_config(R"j({"type": "Int4WeightOnly"})j").status(), "did you mean Int4WeightOnlyConfig?"));
  CHECK(says(parse_config(R"j({"type": "Int4WeightOnlyConfig", "groupsize": 32})j").status(),
             "did you mean group_size?"));
  CHECK(says(parse_config(R"j({"type": "Int4WeightOnlyConfig", "group_size": "x"})j").status(), "expected integer"));
  CHECK(says(parse_config(R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int12"})j").status(),
             "expected a dtype"));
  CHECK(says(parse_config(R"j({"fields": 1})j").status(), "type"));
  // No value is the default only where a field may be absent.
  CHECK(config_of(R"j({"type": "Int8WeightOnlyConfig", "group_size": null})j") ==
        config_of(R"j({"type": "Int8WeightOnlyConfig"})j"));
  CHECK(says(parse_config(R"j({"type": "SmoothQuantConfig", "alpha": null,
                               "base_config": {"type": "Int8WeightOnlyConfig"}})j")
                 .status(),
             "field \"alpha\" is null, expected real"));
}

// ---- weights

Tensor matrix(std::vector<std::int64_t> shape, std::uint64_t seed) {
  return testing::random_tensor(std::move(shape), seed);
}

Result<Quantized> quantized(const char* json, const Tensor& w) {
  return quantize_weight(config_of(json), {"layer", w.view(), nullptr}, nullptr);
}

TEST_CASE("weights that cannot be quantized are typed errors; constant and zero ones have finite scales") {
  Tensor w = matrix({4, 32}, 1);
  CHECK(says(quantized(R"j({"type": "IntxWeightOnlyConfig", "granularity": "PerGroup(-1)"})j", w).status(), "-1"));
  w.mutable_as<float>()[37] = std::numeric_limits<float>::quiet_NaN();
  const Status nan = quantized(R"j({"type": "Int8WeightOnlyConfig"})j", w).status();
  CHECK(nan.code() == Code::invalid_data);
  CHECK(says(nan, "weight [1, 5] is nan"));
  w.mutable_as<float>()[37] = std::numeric_limits<float>::infinity();
  CHECK(says(quantized(R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j", w).status(), "inf"));
  for (const float value : {0.0f, 1e-42f, 3.0f, -3.0f}) {
    std::ranges::fill(w.mutable_as<float>(), value);
    for (
        const char* json :
        {R"j({"type": "Int8WeightOnlyConfig"})j", R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j",
         R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int2", "mapping_type": "asymmetric"})j",
         R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int4", "mapping_type": "symmetric_no_clipping_err"})j"}) {
      const Result<Quantized> q = quantized(json, w);
      REQUIRE(q.ok());
      for (float scale : q->weight->qparams.scale) CHECK((std::isfinite(scale) && scale > 0.0f));
      const Tensor back = dequantize(*q->weight).value();
      for (float v : back.as<float>()) CHECK(std::fabs(v - value) <= 0.51f * std::fabs(value) + 1e-6f);
    }
  }
  const Tensor empty = Tensor::make(DType::f32, {0, 8}).value();
  CHECK(quantized(R"j({"type": "Int8WeightOnlyConfig"})j", empty).status().code() == Code::invalid_argument);
}

TEST_CASE("int4 leaves layers in float whose depth its groups do not divide, as torchao does") {
  const Result<Quantized> q = quantized(R"j({"type": "Int4WeightOnlyConfig", "group_size": 24})j", matrix({4, 32}, 1));
  REQUIRE(q.ok());
  CHECK(!q->weight);
  CHECK(q->kept_because == "32 inputs are no multiple of group_size 24");
}

// ---- models

struct Network : nn::Module {
  nn::Linear first{at("first"), 32, 16};
  nn::ReLU relu{at("relu")};
  nn::Linear second{at("second"), 16, 8};
  nn::Linear head{at("head"), 8, 3};
  const char* type_name() const override { return "Network"; }
  nn::Proxy forward(const nn::Proxy& x) override { return head(second(relu(first(x)))); }
};

Graph network(std::uint64_t seed = 1) {
  Network model;
  testing::randomize(model, seed);
  Type type;
  type.shape = {Dim(5), Dim(32)};
  Graph graph = nn::symbolic_trace(model, {"x", type}).value();
  PassContext context;
  REQUIRE(run_passes(graph, standard_rewrites(), context).ok());
  return graph;
}

std::vector<std::string> ops_of(const Graph& graph) {
  std::vector<std::string> ops;
  for (const Node* n : graph.nodes()) {
    if (!n->def().has_trait(kStructural)) ops.push_back(n->scope.path + ":" + n->def().name);
  }
  return ops;
}

double error_of(const Graph& exact, const Graph& found, std::uint64_t seed = 9) {
  const std::vector<Tensor> x{matrix({5, 32}, seed)};
  const Tensor a = testing::run(exact, x), b = testing::run(found, x);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    const double d = static_cast<double>(a.as<float>()[i]) - static_cast<double>(b.as<float>()[i]);
    error += d * d;
    norm += static_cast<double>(a.as<float>()[i]) * static_cast<double>(a.as<float>()[i]);
  }
  return std::sqrt(error / norm);
}

TEST_CASE("every layer becomes one op on narrow codes, with its activation behind it") {
  Graph graph = network();
  const Graph exact = network();
  const Result<std::vector<LayerReport>> layers =
      quantize(graph, config_of(R"j({"type": "Int4WeightOnlyConfig", "group_size": 8})j"));
  REQUIRE(layers.ok());
  CHECK(ops_of(graph) == std::vector<std::string>{"first:linear_weight_only", "first:relu", "second:linear_weight_only",
                                                  "head:linear_weight_only"});
  REQUIRE(layers->size() == 3);
  CHECK(layers->at(0).module == "first");
  CHECK(layers->at(0).bits_per_weight == doctest::Approx(12));
  CHECK(layers->at(0).relative_error < 0.1);
  CHECK(error_of(exact, graph) < 0.15);
}

TEST_CASE("names go before patterns, patterns in their order, and null leaves a layer alone") {
  Graph graph = network();
  const std::optional<Config> int8 = config_of(R"j({"type": "Int8WeightOnlyConfig"})j");
  const std::optional<Config> dynamic = config_of(R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j");
  const std::optional<Config> int4 = config_of(R"j({"type": "Int4WeightOnlyConfig", "group_size": 8})j");
  const ConfigRules rules = {
      {"_default", int8}, {"re:s.*", dynamic}, {"re:second", int4}, {"head", std::nullopt}, {"first.weight", int4}};
  const Result<std::vector<LayerReport>> layers = quantize(graph, rules);
  REQUIRE(layers.ok());
  CHECK(layers->at(0).type == "Int4WeightOnlyConfig");
  CHECK(layers->at(1).type == "Int8DynamicActivationInt8WeightConfig");
  CHECK(layers->at(2).kept_because == "its configuration is null");
  CHECK(ops_of(graph) ==
        std::vector<std::string>{"first:linear_weight_only", "first:relu", "second:linear_dynamic", "head:linear"});
}

TEST_CASE("a filter chooses by module and node") {
  Graph graph = network();
  ModelOptions options;
  options.filter = [](const std::string& module, const Node&) { return module != "second"; };
  const Result<std::vector<LayerReport>> layers =
      quantize(graph, config_of(R"j({"type": "Int8WeightOnlyConfig"})j"), options);
  REQUIRE(layers.ok());
  CHECK(layers->size() == 2);
  CHECK(ops_of(graph)[2] == "second:linear");
}

TEST_CASE("a name that no layer has, and a pattern that is none, are errors before anything changes") {
  Graph graph = network();
  const std::optional<Config> int8 = config_of(R"j({"type": "Int8WeightOnlyConfig"})j");
  const Status unknown = quantize(graph, {{"secnd", int8}}).status();
  CHECK(unknown.id() == ErrorId::recipe_unmatched);
  CHECK(says(unknown, "did you mean second?"));
  CHECK(says(quantize(graph, {{"re:(", int8}}).status(), "regular expression"));
  CHECK(ops_of(graph) == ops_of(network()));
}

TEST_CASE("a static scale is learnt from data, and missing data are named") {
  Graph graph = network();
  const Graph exact = network();
  const Config config = config_of(R"j({"type": "Int8StaticActivationInt8WeightConfig"})j");
  CHECK(
      says(quantize(graph, config).status(), "layer \"first\": Int8StaticActivationInt8WeightConfig learns from data"));
  testing::Batches data({5, 32}, 4);
  ModelOptions options;
  options.data = &data;
  REQUIRE(quantize(graph, config, options).ok());
  CHECK(ops_of(graph)[0] == "first:linear_dynamic");
  CHECK(error_of(exact, graph, 101) < 0.03);
}

TEST_CASE("the graph's layer computes what the tensors' layer does") {
  for (const char* json :
       {R"j({"type": "Int8WeightOnlyConfig"})j", R"j({"type": "Int4WeightOnlyConfig", "group_size": 8})j",
        R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j",
        R"j({"type": "Int8DynamicActivationInt8WeightConfig", "act_mapping_type": "asymmetric"})j",
        R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4",
                               "weight_granularity": "PerGroup(16)", "weight_mapping_type": "asymmetric"})j",
        R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int3", "granularity": "PerGroup(8)"})j",
        R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerRow"})j",
        R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerBlock(8, 16)"})j",
        R"j({"type": "CodebookWeightOnlyConfig", "block_size": [1, 2], "dtype": "uint4"})j"}) {
    CAPTURE(json);
    Graph graph = network(3);
    const Config config = config_of(json);
    const Node* first = nullptr;
    for (const Node* n : graph.nodes()) {
      if (n->is(Op::linear) && n->scope.path == "first") first = n;
    }
    REQUIRE(first != nullptr);
    const Tensor w = *constant_tensor(first->input(1)), bias = *constant_tensor(first->input(2));
    const Tensor x = matrix({5, 32}, 4);
    const Quantized q = quantize_weight(config, {"first", w.view(), &bias}, nullptr).value();
    const Tensor expected = linear(*q.weight, x.view(), &bias).value();
    ModelOptions options;
    options.filter = [](const std::string& module, const Node&) { return module == "first"; };
    REQUIRE(quantize(graph, config, options).ok());
    const Tensor found = testing::value_of(graph, "first", {x});
    // The layer of a codebook stays a linear, with its activation.
    const bool is_rectified = std::string_view(json).find("Codebook") != std::string_view::npos;
    for (std::size_t i = 0; i < expected.as<float>().size(); ++i) {
      if (is_rectified && expected.as<float>()[i] < 0) continue;
      CHECK(found.as<float>()[i] == doctest::Approx(static_cast<double>(expected.as<float>()[i])).epsilon(1e-5));
    }
  }
}

// ---- handlers of a program's own

Result<Quantized> ternary(const Config& config, const LinearSite& site, InputObserver*) {
  QuantizedWeight w = int8_weight(site.weight, {Granularity::Kind::row, -1}).value();
  for (std::int8_t& code : w.codes.mutable_as<std::int8_t>()) {
    code = static_cast<std::int8_t>(code > config.fields.integer("threshold") ? 100 : 0);
  }
  return Quantized{std::move(w), {}};
}

// Fails at the last of the network's layers.
Result<Quantized> not_the_head(const Config&, const LinearSite& site, InputObserver*) {
  if (site.name == "head") return error(Code::invalid_data, "not this one");
  return Quantized{int8_weight(site.weight, {Granularity::Kind::row, -1}).value(), {}};
}

TEST_CASE("a layer that cannot be quantized leaves the whole graph as it was") {
  Handler handler;
  handler.type = "NotTheHeadConfig";
  handler.quantize = not_the_head;
  REQUIRE(register_handler(handler).ok());
  Graph graph = network();
  const std::string before = print_text(graph).text;
  const Status failed = quantize(graph, config_of(R"j({"type": "NotTheHeadConfig"})j")).status();
  CHECK(says(failed, "not this one"));
  CHECK(says(failed, "head"));
  CHECK(print_text(graph).text == before);
}

TEST_CASE("a program registers a configuration of its own, once") {
  Handler handler;
  handler.type = "TernaryConfig";
  handler.fields = {{"threshold", AttributeKind::integer, "40", "codes above it stay"}};
  handler.quantize = ternary;
  REQUIRE(register_handler(handler).ok());
  CHECK(register_handler(handler).code() == Code::invalid_argument);
  CHECK(register_handler({}).code() == Code::invalid_argument);
  Graph graph = network();
  REQUIRE(quantize(graph, config_of(R"j({"type": "TernaryConfig"})j")).ok());
  CHECK(ops_of(graph)[0] == "first:linear_weight_only");
  CHECK(says(parse_config(R"j({"type": "TernaryConfig", "base_config": {"type": "TernaryConfig"}})j").status(),
             "no field \"base_config\""));
}

// ---- recipes

TEST_CASE("a recipe holds configurations, prints them and runs them in the pipeline") {
  const Result<Recipe> recipe =
      parse_recipe(R"j({"configs": [["re:(first|second)", {"type": "Int8WeightOnlyConfig"}], ["head", null]]})j");
  REQUIRE(recipe.ok());
  CHECK(recipe->mode == QuantMode::weight_only);
  CHECK(!recipe->global);
  const Result<Recipe> again = parse_recipe(print_recipe(*recipe));
  REQUIRE(again.ok());
  CHECK(again->configs == recipe->configs);
  Graph graph = network();
  REQUIRE(aoq::quantize(graph, *recipe).ok());
  CHECK(graph.stage == Stage::lowered);
  CHECK(ops_of(graph) ==
        std::vector<std::string>{"first:linear_weight_only", "first:relu", "second:linear_weight_only", "head:linear"});
  CHECK(says(parse_recipe(R"j({"configs": {"head": {"type": "Int5Config"}}})j").status(), "configs \"head\""));
}

TEST_CASE("layers kept in float stay so, and a rest of the recipe quantizes what is left") {
  Result<Recipe> recipe = parse_recipe(
      R"j({"configs": {"first": {"type": "Int8WeightOnlyConfig"}}, "keep_float": ["head"],
          "object_type": [["linear", {"activation": {"kind": "placeholder", "dtype": "u8"},
                                      "weight": {"kind": "min_max", "dtype": "i8", "qscheme": "per_tensor_symmetric"}}]],
          "mode": "dynamic"})j");
  INFO(recipe.status().message());
  REQUIRE(recipe.ok());
  Graph graph = network();
  REQUIRE(aoq::quantize(graph, *recipe).ok());
  const std::vector<std::string> ops = ops_of(graph);
  CHECK(ops.front() == "first:linear_weight_only");
  CHECK(ops.back() == "head:linear");
  CHECK(std::ranges::find(ops, "second:qlinear") != ops.end());
}

}  // namespace
}  // namespace aoq::torchao
