// Tuning files from anywhere, and what is made of them; costs from measured steps; the estimate.
#include <doctest/doctest.h>

#include "formats/json/json.h"
#include "ir/text.h"
#include "passes/quantize/weights.h"
#include "tools/cost_estimate.h"
#include "tools/step_costs.h"
#include "tools/tuning_file.h"

namespace aoq::tools {
namespace {

constexpr const char* kFile = R"({
  "format": "aoq-tuning", "version": 1, "aoq": "0.1.0", "isa": "avx2", "onednn": "", "threads": 2,
  "deterministic": false, "source_hash": "xxh64:0", "shapes": {"x": [1, 4]}, "noise": 0.02,
  "ops": [{"name": "fc1", "op": "linear", "key": "", "float_us": 35, "int8_us": 38, "noise": 0.03, "runs": "float32",
           "region": 0, "float_row": "linear_f32", "int8_row": "qlinear_s8"},
          {"name": "fc2", "op": "linear", "float_us": 9, "int8_us": 4, "runs": "int8"}],
  "regions": [{"float_us": 35, "int8_us": 41}],
  "rows": [{"name": "fc2", "op": "qlinear", "row": "qlinear_s8", "us": 4, "before": "other", "before_us": 5}],
  "whole": {"float_us": 50, "int8_us": 45, "chosen_us": 40, "chosen": "mixed"}
})";

constexpr const char* kModel = R"(aoqir 1 traced
symbol N [1, 64]
%0 = input() {dtype=f32, name="x", shape=[N, 4]}
%1 = constant() {value=f32[3, 4]{0.5, -0.25, 0.125, 1, -1, 0.75, 0.5, -0.5, 0.25, 0.25, -0.75, 0.5}}
%2 = linear(%0, %1) origins("fc1")
%3 = relu(%2) origins("between")
%4 = constant() {value=f32[3, 3]{1, -0.5, 0.25, 0.5, 0.75, -1, -0.25, 0.5, 1}}
%5 = linear(%3, %4) origins("fc2")
%6 = softmax(%5) origins("p")
output(%6) {names=["p"]}
)";

Graph model() {
  return parse_text(kModel, {}).value();
}

const Node& node(const Graph& g, std::string_view label) {
  for (const Node* n : g.nodes()) {
    if (n->label() == label) return *n;
  }
  FAIL("no such node");
  return *g.first();
}

Status read(const Json& json) {
  return Tuning::from_json(dump_json(json)).status();
}

TEST_CASE("a tuning file is read, and written again as the same text") {
  const Tuning t = Tuning::from_json(kFile).value();
  REQUIRE(t.ops.size() == 2);
  CHECK(t.ops[0].name == "fc1");
  CHECK(!t.ops[0].runs_in_int8);
  CHECK(t.ops[0].region == 0);
  CHECK(t.ops[1].runs_in_int8);
  CHECK(t.isa == "avx2");
  CHECK(t.rows[0].row == "qlinear_s8");
  CHECK(t.whole->chosen == Tuning::Chosen::mixed);
  const std::string text = t.to_json();
  CHECK(Tuning::from_json(text).value().to_json() == text);
}

TEST_CASE("a file that is cut short is no tuning file, wherever it is cut") {
  const std::string text = kFile;
  for (std::size_t n = 0; n < text.size(); ++n) {
    CAPTURE(n);
    REQUIRE(Tuning::from_json(text.substr(0, n)).status().code() == Code::invalid_data);
  }
}

TEST_CASE("what is missing, unknown or of the wrong kind is named") {
  struct Case {
    const char* at;
    Json value;
    const char* says;
  };
  const Json list = Json::array(), text = "seven";
  for (const Case& c : std::vector<Case>{
           {"/format", "other", "expected \"aoq-tuning\""},
           {"/format", 1, "format"},
           {"/version", 2, "this aoq reads 1"},
           {"/version", "1", "version"},
           {"/isa", 7, "isa"},
           {"/threads", -1, "expected 0 or more"},
           {"/threads", 1.5, "threads"},
           {"/deterministic", "no", "deterministic"},
           {"/shapes", list, "\"shapes\" is no object"},
           {"/shapes/x", text, "no list of sizes"},
           {"/shapes/x", Json::array({-1}), "no list of sizes"},
           {"/shapes/x", Json::array({1.5}), "no list of sizes"},
           {"/ops", text, "\"ops\" is no list"},
           {"/ops/0", list, "ops[0] is no object"},
           {"/ops/1/runs", "int4", "expected one of float32, int8"},
           {"/ops/1/float_us", -1, "expected 0 to"},
           {"/ops/1/float_us", 1e300, "expected 0 to"},
           {"/ops/1/float_us", text, "float_us"},
           {"/ops/1/name", nullptr, "name"},
           {"/ops/0/region", 1, "the file has 1 regions"},
           {"/ops/0/region", -1, "expected 0 or more"},
           {"/ops/0/region", 18446744073709551615ULL, "region"},
           {"/ops/0/flaot_us", 1, "did you mean \"float_us\"?"},
           {"/regions/0", 3, "regions[0] is no object"},
           {"/rows/0/row", false, "row"},
           {"/whole/chosen", "best", "expected one of mixed, int8, float32"},
           {"/whole", list, "whole is no object"},
           {"/colour", "red", "unknown member \"colour\""},
       }) {
    Json json = parse_json(kFile).value();
    json[Json::json_pointer(c.at)] = c.value;
    CAPTURE(c.at);
    const Status status = read(json);
    CHECK(status.code() == Code::invalid_data);
    CHECK_MESSAGE(status.message().find(c.says) != std::string::npos, status.message());
  }
  for (const char* needed : {"name", "op", "float_us", "int8_us", "runs"}) {
    Json json = parse_json(kFile).value();
    json["ops"][1].erase(needed);
    CHECK_MESSAGE(read(json).message().find(needed) != std::string::npos, needed);
  }
}

TEST_CASE("every member replaced by every kind of value is read or refused, never more") {
  const Json whole = parse_json(kFile).value();
  const Json values[] = {nullptr,       true, -1, 1e308, 9223372036854775807LL, "", Json::array({Json::array()}),
                         Json::object()};
  int refused = 0;
  const Json flat = whole.flatten();
  for (const auto& [path, old] : flat.items()) {
    for (const Json& value : values) {
      Json json = whole;
      json[Json::json_pointer(path)] = value;
      const Status status = read(json);
      CAPTURE(path);
      CHECK((status.ok() || status.code() == Code::invalid_data));
      refused += status.ok() ? 0 : 1;
    }
  }
  CHECK(refused > 150);
}

TEST_CASE("ops of the file stay in float and say both figures") {
  const Tuning t = Tuning::from_json(kFile).value();
  Graph g = model();
  std::vector<std::string> warnings;
  REQUIRE(apply_tuning(t, g, warnings).ok());
  CHECK(warnings.empty());
  CHECK(is_declined(node(g, "fc1")));
  CHECK(node(g, "fc1").reason == "float is faster: int8 takes 41 us, float 35 us here, with its conversions");
  CHECK(!is_declined(node(g, "fc2")));
}

TEST_CASE("a reason says what the figures are of") {
  Tuning t = Tuning::from_json(kFile).value();
  t.ops[1].runs_in_int8 = false;
  t.ops[1].region = 0;
  std::vector<std::string> warnings;
  Graph region = model();
  REQUIRE(apply_tuning(t, region, warnings).ok());
  CHECK(node(region, "fc2").reason ==
        "float is faster: int8 takes 41 us, float 35 us here, for it and 1 beside it, with conversions");
  for (Tuning::Op& op : t.ops) op.region.reset();
  t.whole->chosen = Tuning::Chosen::in_float;
  Graph whole = model();
  REQUIRE(apply_tuning(t, whole, warnings).ok());
  CHECK(node(whole, "fc1").reason == "float is faster: int8 takes 45 us, float 50 us here, for the whole model");
  CHECK(figures(35.04, 35.01, "here", "x") == "int8 takes 35.04 us, float 35.01 us here, x");
}

TEST_CASE("a file of another model is an error, one of another shape or with more ops a warning") {
  std::vector<std::string> warnings;
  Tuning t = Tuning::from_json(kFile).value();
  t.ops[0].key = shape_key(node(model(), "fc1"));
  CHECK(t.ops[0].key == "linear f32[N, 4] f32[3, 4] -> f32[N, 3]");
  Graph g = model();
  REQUIRE(apply_tuning(t, g, warnings).ok());
  CHECK(is_declined(node(g, "fc1")));
  CHECK(warnings.empty());
  t.ops[0].key = "linear f32[N, 5] f32[3, 5] -> f32[N, 3]";
  Graph reshaped = model();
  REQUIRE(apply_tuning(t, reshaped, warnings).ok());
  CHECK(!is_declined(node(reshaped, "fc1")));
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("fc1 had other shapes") != std::string::npos);
  warnings.clear();
  t.ops[0].op = "conv";
  Graph other = model();
  REQUIRE(apply_tuning(t, other, warnings).ok());
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("no op fc1") != std::string::npos);
  t.ops[1].name = "fc9";
  const Status status = apply_tuning(t, other, warnings);
  CHECK(status.code() == Code::invalid_data);
  CHECK(status.message().find("of another model") != std::string::npos);
}

TEST_CASE("the problem of a model has its ops, their values and who needs whom") {
  const Graph g = model();
  const PlacementModel m = placement_model(g, default_recipe()).value();
  REQUIRE(m.ops.size() == 3);
  CHECK(m.ops[1]->label() == "between");
  CHECK(!m.problem.ops[0].needs_reader);
  CHECK(m.problem.ops[1].needs_reader);
  CHECK(m.problem.needs == std::vector<std::pair<std::size_t, std::size_t>>{{1, 0}});
  REQUIRE(m.values.size() == 4);
  CHECK(m.values[0].observer == "x");
  CHECK(m.problem.values[0].made_by == kFloatMade);
  CHECK(m.problem.values[0].read_by == std::vector<std::size_t>{0});
  CHECK(m.problem.values[2].made_by == 1);
  CHECK(m.problem.values[3].is_read_in_float);
  CHECK(m.problem.values[3].read_by.empty());
  Recipe weight_only = default_weight_only_recipe();
  CHECK(placement_model(g, weight_only).value().ops.empty());
}

TEST_CASE("costs are those of the steps that bear an op's name, conversions go to their values") {
  const Graph g = model();
  PlacementModel m = placement_model(g, default_recipe()).value();
  for (PlacedValue& v : m.values) v.elements = 4;
  const std::vector<MeasuredStep> in_float{{"fc1", "linear", 10}, {"between", "relu", 2}, {"fc2", "linear", 12}};
  const std::vector<MeasuredStep> in_int8{{"x", "quantize", 3},
                                          {"fc1", "permute", 1},
                                          {"fc1", "qlinear", 5},
                                          {"between", "lookup", 1.5},
                                          {"fc2", "qlinear", 6}};
  MeasuredConversions conversions;
  conversions.by_elements[4] = {7, 8};
  fill_costs(in_float, in_int8, conversions, m);
  CHECK(m.problem.ops[0].float_cost == 10);
  CHECK(m.problem.ops[0].int8_cost == 6);
  CHECK(m.problem.ops[1].int8_cost == 1.5);
  CHECK(m.problem.values[0].quantize_cost == 3);    // measured in the model
  CHECK(m.problem.values[1].quantize_cost == 7);    // of its size
  CHECK(m.problem.values[1].dequantize_cost == 8);  // of its size
  CHECK(m.problem.values[3].dequantize_cost == 0);  // the op writes floats itself
}

TEST_CASE("declined ops are not observed, and ranges learnt before fit what is left") {
  Graph g = model();
  const PlacementModel before = placement_model(g, default_recipe()).value();
  for (Node* n : g.nodes()) {
    if (n->label() == "fc1") decline(n, "int8 takes 2 us, float 1 us here");
  }
  const PlacementModel after = placement_model(g, default_recipe()).value();
  REQUIRE(after.ops.size() == 1);
  CHECK(after.ops[0]->label() == "fc2");
  Ranges ranges;
  for (const PlacedValue& v : before.values) {
    if (!v.observer.empty()) ranges.observers[v.observer] = make_observer(default_recipe().global->activation).value();
  }
  REQUIRE(rename_ranges(before, after, ranges).ok());
  for (const PlacedValue& v : after.values) CHECK((v.observer.empty() || ranges.observers.contains(v.observer)));
}

// A reshape's codes have the scale, and the observer, of what it reads.
constexpr const char* kShared = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[2, 3]}
%1 = constant() {value=f32[3, 3]{1, -0.5, 0.25, 0.5, 0.75, -1, -0.25, 0.5, 1}}
%2 = linear(%0, %1) origins("a")
%3 = reshape(%2) {shape=[1, 2, 3]} origins("shape")
%4 = linear(%3, %1) origins("b")
output(%4) {names=["y"]}
)";

TEST_CASE("what shared an observer keeps its range under the name that is left") {
  Graph g = parse_text(kShared, {}).value();
  const PlacementModel before = placement_model(g, default_recipe()).value();
  Ranges ranges;
  for (const PlacedValue& v : before.values) {
    if (v.observer.empty() || ranges.observers.contains(v.observer)) continue;
    std::unique_ptr<Observer> observer = make_observer(default_recipe().global->activation).value();
    Tensor seen = Tensor::make(DType::f32, {2}).value();
    seen.mutable_as<float>()[0] = v.observer == "a" ? 5.0f : 1.0f;
    REQUIRE(observer->observe(seen.view()).ok());
    ranges.observers[v.observer] = std::move(observer);
  }
  REQUIRE(ranges.observers.contains("a"));
  REQUIRE(!ranges.observers.contains("shape"));
  for (Node* n : g.nodes()) {
    if (n->label() == "a") decline(n, "int8 takes 2 us, float 1 us here");
  }
  const PlacementModel after = placement_model(g, default_recipe()).value();
  REQUIRE(rename_ranges(before, after, ranges).ok());
  REQUIRE(ranges.observers.contains("shape"));
  CHECK(observer_to_json(*ranges.observers.at("shape")) == observer_to_json(*ranges.observers.at("a")));
  CHECK(observer_to_json(*ranges.observers.at("shape")) != observer_to_json(*ranges.observers.at("x")));
}

// y = softmax(conv(softmax(x))) on a large plane: few channels, so that converting costs more than the conv saves.
constexpr const char* kLone = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[1, 2, 256, 256]}
%1 = softmax(%0) {axis=1} origins("before")
%2 = constant() {value=f32[2, 1, 1, 1]{0.5, -0.25}}
%3 = conv(%1, %2) {groups=2} origins("lone")
%4 = softmax(%3) {axis=1} origins("after")
output(%4) {names=["y"]}
)";

TEST_CASE("the estimate drops what clearly loses, with its figures, and nothing else") {
  for (const char* cpu : {"portable", "avx2", "avx512_vnni"}) {
    Graph lone = parse_text(kLone, {}).value();
    CHECK(decline_by_estimate(lone, default_recipe(), cpu).value() == 1);
    CHECK(is_declined(node(lone, "lone")));
    CHECK(node(lone, "lone").reason.find("by an estimate for") != std::string::npos);
    Graph small = model();
    CHECK(decline_by_estimate(small, default_recipe(), cpu).value() == 0);
    CHECK(!is_declined(node(small, "fc1")));
  }
}

TEST_CASE("a recipe of PyTorch's is not second-guessed") {
  Recipe recipe = default_recipe();
  recipe.backend = "x86";
  Graph lone = parse_text(kLone, {}).value();
  CHECK(decline_by_estimate(lone, recipe, "portable").value() == 0);
}

}  // namespace
}  // namespace aoq::tools
