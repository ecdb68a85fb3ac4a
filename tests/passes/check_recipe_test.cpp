// Recipes and ranges that cannot work are told early, by the name of the module.
#include "passes/quantize/check_recipe.h"

#include <limits>
#include <map>

#include "tests/passes/quantize_support.h"

namespace aoq {
namespace {

bool is(const Status& status, ErrorId id) {
  return status.id() == id;
}

std::string global_with(const std::string& activation, const std::string& weight) {
  return R"({"global": {"activation": )" + activation + R"(, "weight": )" + weight + "}}";
}

constexpr const char* kWeight = R"({"kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric"})";

// ---- names

TEST_CASE("a module or a float exception that matches nothing is an error with the nearest name") {
  Workflow module{recipe_of(R"({"module_name": [["net.fc3", null]]})")};
  Status status = module.run(Stage::prepared, nullptr);
  CHECK(is(status, ErrorId::recipe_unmatched));
  CHECK(says(status, "module_name: the model has no module \"net.fc3\"; did you mean \"net.fc1\"?"));
  Workflow kept{recipe_of(R"({"keep_float": ["fc22"]})")};
  status = kept.run(Stage::prepared, nullptr);
  CHECK(is(status, ErrorId::recipe_unmatched));
  CHECK(says(status, "did you mean \"fc2\"?"));
}

TEST_CASE("patterns, types and ops that match nothing are warnings") {
  Workflow w{recipe_of(
      R"({"module_name_regex": [["encoder\\..*", null]], "object_type": [["Liner", null]], "keep_float": ["softmax"]})")};
  REQUIRE(w.run(Stage::prepared, nullptr).ok());
  REQUIRE(w.warnings.size() == 3);
  CHECK(w.warnings[0] == "keep_float \"softmax\": the model has no such op");
  CHECK(w.warnings[1] == "module_name_regex \"encoder\\..*\" matches no module of the model");
  CHECK(w.warnings[2] == "object_type \"Liner\": the model has no such op or class; did you mean \"Linear\"?");
}

TEST_CASE("ancestors, nodes, classes and ops are names; nothing is said about those") {
  Workflow w{recipe_of(R"({"module_name": [["net", null], ["net.fc2", null]], "module_name_regex": [["net\\.f", null]],
    "object_type": [["Linear", null], ["reshape", null]], "keep_float": ["fc1", "Flatten", "linear", "net.flat"]})")};
  REQUIRE(w.run(Stage::prepared, nullptr).ok());
  CHECK(w.warnings.empty());
}

TEST_CASE("the pass prepare looks at names by itself, too") {
  Workflow w{recipe_of(R"({"module_name": [["net.fc3", null]]})")};
  PassContext context{.recipe = &w.recipe};
  const std::string prepare[] = {"prepare"};
  CHECK(is(run_passes(w.graph, prepare, context).status(), ErrorId::recipe_unmatched));
}

// ---- qconfigs

TEST_CASE("activations that no stub can hold fail where the recipe is read, by the name of the rule") {
  const char* bad[] = {R"({"kind": "min_max", "dtype": "qint32"})",
                       R"({"kind": "per_channel_min_max", "dtype": "quint8", "qscheme": "per_channel_affine"})",
                       R"_({"kind": "affine_min_max", "dtype": "i8", "granularity": "PerAxis(1)"})_",
                       R"({"kind": "placeholder", "dtype": "qint32"})",
                       R"({"kind": "placeholder", "dtype": "u8", "granularity": "PerToken"})",
                       R"({"kind": "placeholder", "dtype": "u8", "quant_min": 0, "quant_max": 127})",
                       R"({"kind": "noop", "dtype": "float16"})"};
  for (const char* activation : bad) {
    CAPTURE(activation);
    const Status status = parse_recipe(global_with(activation, kWeight)).status();
    CHECK(is(status, ErrorId::qconfig_unsupported));
    CHECK(says(status, "recipe: global: activation"));
  }
  CHECK(
      parse_recipe(global_with(R"({"kind": "placeholder", "dtype": "u8", "quant_min": 0, "quant_max": 255})", kWeight))
          .ok());
  CHECK(parse_recipe(global_with(R"({"kind": "recording"})", kWeight)).ok());
}

TEST_CASE("an unknown or impossible observer fails where the recipe is read") {
  const std::string rule =
      R"({"module_name": [["net.fc1", {"activation": {"kind": "histgram"}, "weight": )" + std::string(kWeight) + "}]]}";
  const Status status = parse_recipe(rule).status();
  CHECK(is(status, ErrorId::observer_unknown));
  CHECK(says(status, "module_name \"net.fc1\""));
  CHECK(says(status, "did you mean \"histogram\"?"));
  CHECK(says(parse_recipe(global_with(R"({"kind": "histogram", "bins": 1})", kWeight)).status(), "bins"));
}

TEST_CASE("weights that no kernel takes fail in prepare, by the name of the module") {
  const char* bad[] = {
      R"({"kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric", "ch_axis": 1})",
      R"({"kind": "min_max", "dtype": "i8", "qscheme": "per_tensor_affine"})",
      R"({"kind": "min_max", "dtype": "quint8", "qscheme": "per_tensor_symmetric"})",
      R"({"kind": "min_max", "dtype": "i8", "qscheme": "per_tensor_symmetric", "quant_min": -200, "quant_max": 200})",
      R"_({"kind": "affine_min_max", "dtype": "i8", "mapping": "symmetric", "granularity": "PerGroup(2)"})_",
      R"({"kind": "recording", "dtype": "i8"})"};
  for (const char* weight : bad) {
    CAPTURE(weight);
    Workflow w{recipe_of(R"({"module_name": [["net.fc2", {"activation": {"kind": "histogram"}, "weight": )" +
                         std::string(weight) + "}]]}")};
    const Status status = w.run(Stage::prepared, nullptr);
    CHECK(is(status, ErrorId::qconfig_unsupported));
    CHECK(says(status, "module \"net.fc2\""));
    CHECK(says(status, "weight"));
  }
}

TEST_CASE("a recipe made in the program is held to the same rules") {
  Workflow w{default_recipe()};
  w.recipe.global->activation.dtype = DType::i32;
  w.recipe.global->activation.kind = "min_max";
  const Status status = w.run(Stage::prepared, nullptr);
  CHECK(is(status, ErrorId::qconfig_unsupported));
  CHECK(says(status, "module \"net.fc1\""));
}

std::string observer_names(const Graph& graph) {
  std::string names;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::observe)) names += n->attributes().string("observer") + " ";
  }
  return names;
}

TEST_CASE("reuse_input gives a value its producer's observer, and is an error where there is none") {
  std::string text = kTwoLayers;
  text.replace(text.find("reshape(%2) {shape=[N, 4]}"), 26, "sigmoid(%2)");
  Workflow own{recipe_of("{}")};
  own.graph = graph_of(text.c_str());
  REQUIRE(own.run(Stage::prepared, nullptr).ok());
  CHECK(observer_names(own.graph) == "x fc1 flat ");

  Workflow w{recipe_of(R"({"object_type": [["sigmoid", {"activation": {"kind": "reuse_input"}, "weight": )" +
                       std::string(kWeight) + "}]]}")};
  w.graph = graph_of(text.c_str());
  const Status status_of_reuse = w.run();
  REQUIRE_MESSAGE(status_of_reuse.ok(), status_of_reuse.message());
  CHECK(w.ranges.observers.size() == 2);
  CHECK(w.ranges.observers.at("fc1")->spec().kind == "histogram");
  std::map<std::string, double> scales;
  for (const Node* n : w.graph.nodes()) {
    if (n->is(Op::quantize)) scales[n->input(0)->def()->label()] = n->attributes().real("scale");
  }
  REQUIRE(scales.size() == 3);
  CHECK(scales["fc1"] == scales["flat"]);
  CHECK(scales["fc1"] != scales["x"]);

  // The model's input has no producer to take an observer from.
  Workflow none{recipe_of(global_with(R"({"kind": "reuse_input"})", kWeight))};
  const Status status = none.run(Stage::prepared, nullptr);
  CHECK(is(status, ErrorId::qconfig_unsupported));
  CHECK(says(status, "reuse_input"));
}

// ---- ranges

TEST_CASE("ranges that are not finite fail where they are read, and in convert") {
  Workflow w{recipe_of(R"({"equalization": false})")};
  REQUIRE(w.run().ok());
  Workflow again{w.recipe};
  for (const auto& [name, observer] : w.ranges.observers) {
    ObserverSpec spec = observer->spec();
    spec.kind = "min_max";
    std::unique_ptr<Observer> broken = make_observer(spec).value();
    REQUIRE(broken->restore({{-1}, {std::numeric_limits<float>::infinity()}}).ok());
    again.ranges.observers[name] = std::move(broken);
  }
  const Status read = Ranges::from_json(again.ranges.to_json()).status();
  CHECK(is(read, ErrorId::not_finite));
  CHECK(says(read, "observer \"fc1\""));
  const Status converted = again.run(Stage::quantized, nullptr);
  CHECK(is(converted, ErrorId::not_finite));
  CHECK(says(converted, "observer \"x\""));
}

TEST_CASE("an observer that saw nothing fails in convert, by the name of the module") {
  Workflow w{recipe_of("{}")};
  REQUIRE(w.run().ok());
  Workflow again{w.recipe};
  again.ranges.samples = 1;
  for (const auto& [name, observer] : w.ranges.observers) {
    again.ranges.observers[name] = make_observer(observer->spec()).value();
    if (name == "x") REQUIRE(again.ranges.observers[name]->merge(*observer).ok());
  }
  const Status status = again.run(Stage::quantized, nullptr);
  CHECK(is(status, ErrorId::observer_empty));
  CHECK(says(status, "observer \"fc1\" of module \"net.fc1\""));
}

TEST_CASE("empty batches are no calibration data") {
  Workflow w{recipe_of("{}")};
  Batches data({floats_of({0, 2}, {})});
  const Status status = w.run(Stage::quantized, &data);
  CHECK(status.code() == Code::invalid_data);
  CHECK(says(status, "no samples"));
}

TEST_CASE("recordings can be made with a recipe, not quantized from") {
  Workflow w{recipe_of(global_with(R"({"kind": "recording"})", kWeight))};
  const Status status = w.run();
  CHECK(says(status, "recording keeps values and has no scale"));
  CHECK(says(status, "observer \"x\""));
  REQUIRE(w.ranges.observers.contains("x"));
  CHECK(w.ranges.observers.at("x")->state().batches ==
        std::vector<ObserverState::Batch>{{{2, 2}, {1, -0.5f, 0.25f, 2}}});
}

}  // namespace
}  // namespace aoq
