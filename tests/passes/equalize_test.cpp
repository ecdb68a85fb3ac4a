// Equalization: the float meaning stays, the channels of what lies between become equally large, and it keeps its hands
// off what it may not touch.
#include "passes/quantize/equalize.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "ir/interpreter.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "passes/pass.h"

namespace aoq {
namespace {

// 1x1 convolution to 4 channels, `ACTIVATION`, a 3x3 depthwise convolution, a linear combination with a residual.
constexpr const char* kModel = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[2, 3, 5, 5]}
%1 = constant() {value=f32[4, 3, 1, 1]@"w1"}
%2 = constant() {value=f32[4]{0.5, -0.01, 0.25, 0.002}}
%3 = conv(%0, %1, %2) {ACTIVATION} origins("expand")
%4 = constant() {value=f32[4, 1, 3, 3]@"w2"}
%5 = conv(%3, %4) {groups=4, pads=[1, 1, 1, 1], activation="relu"} origins("depthwise")
%6 = constant() {value=f32[6, 4, 1, 1]@"w3"}
%7 = conv(%5, %6) origins("project")
%8 = constant() {value=f32[6, 6, 1, 1]@"w4"}
%9 = conv(%7, %8, _, %7) origins("added")
%10 = constant() {value=f32[2, 6, 1, 1]@"w5"}
%11 = conv(%9, %10) origins("head")
output(%11) {names=["y"]}
)";

Tensor random_tensor(std::vector<std::int64_t> shape, unsigned seed, std::vector<float> row_sizes = {}) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> real(-1.0f, 1.0f);
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  std::span<float> values = t.mutable_as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = real(random);
    if (!row_sizes.empty()) values[i] *= row_sizes[i / (values.size() / row_sizes.size())];
  }
  return t;
}

Graph make_model(const std::string& activation) {
  std::string text = kModel;
  text.replace(text.find("ACTIVATION"), std::strlen("ACTIVATION"), activation);
  std::map<std::string, Tensor> constants = {{"w1", random_tensor({4, 3, 1, 1}, 1, {1.0f, 0.02f, 0.3f, 0.004f})},
                                             {"w2", random_tensor({4, 1, 3, 3}, 2)},
                                             {"w3", random_tensor({6, 4, 1, 1}, 3, {1, 8, 0.5f, 0.01f, 2, 0.1f})},
                                             {"w4", random_tensor({6, 6, 1, 1}, 4, {1, 8, 0.5f, 0.01f, 2, 0.1f})},
                                             {"w5", random_tensor({2, 6, 1, 1}, 5)}};
  Result<Graph> graph = parse_text(text, constants);
  REQUIRE_MESSAGE(graph.ok(), graph.status().message());
  return std::move(*graph);
}

struct OneBatch : CalibrationData {
  bool is_done = false;
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (is_done) return false;
    is_done = true;
    batch = {random_tensor({2, 3, 5, 5}, 9)};
    return true;
  }
};

struct Prepared {
  Graph graph;
  Ranges ranges;
};

Prepared prepared_model(const std::string& activation, const Recipe& recipe) {
  Prepared p{make_model(activation), {}};
  OneBatch data;
  ReferenceExecutor interpreter;
  PassContext context{.recipe = &recipe, .executor = &interpreter, .data = &data, .ranges = &p.ranges};
  const std::string passes[] = {"prepare", "calibrate"};
  Result<bool> done = run_passes(p.graph, passes, context);
  REQUIRE_MESSAGE(done.ok(), done.status().message());
  return p;
}

std::vector<float> result_of(const Graph& graph, const Tensor& x) {
  ReferenceExecutor interpreter;
  std::unique_ptr<Executable> executable = interpreter.prepare(graph).value();
  std::vector<Tensor> out = executable->run(std::vector<Tensor>{x}, Tap{}).value();
  return {out[0].as<float>().begin(), out[0].as<float>().end()};
}

const Node* node_named(const Graph& graph, std::string_view label) {
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::conv) && n->label() == label) return n;
  }
  return nullptr;
}

// The largest relative error of y against x.
double distance(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    error = std::max(error, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
    size = std::max(size, std::abs(static_cast<double>(x[i])));
  }
  return error / size;
}

}  // namespace

TEST_CASE("the graph means the same, and the channels in front of a depthwise convolution become equally large") {
  for (const char* activation :
       {"activation=\"none\"", "activation=\"relu\"", "activation=\"clamp\", activation_min=0, activation_max=6"}) {
    CAPTURE(activation);
    Recipe recipe = default_recipe();
    Prepared p = prepared_model(activation, recipe);
    Tensor x = random_tensor({2, 3, 5, 5}, 9);
    std::vector<float> before = result_of(p.graph, x);
    Result<Equalization> done = equalize(p.graph, recipe, p.ranges);
    REQUIRE(done.ok());
    REQUIRE(verify(p.graph).ok());
    CHECK(distance(before, result_of(p.graph, x)) < 1e-5);
    std::vector<float> factors = channel_factors(p.graph, *node_named(p.graph, "expand"));
    REQUIRE(factors.size() == 4);
    const ChannelStatistics& was = p.ranges.channels.at("depthwise");
    const ChannelStatistics& is = done->channels.at("depthwise");
    double largest = 0;
    for (float v : was.max) largest = std::max<double>(largest, v);
    for (std::size_t c = 0; c < 4; ++c) {
      CHECK(is.max[c] == was.max[c] * factors[c]);
      if (std::string_view(activation).find("none") != std::string_view::npos) continue;
      CHECK(factors[c] >= 1.0f);
      CHECK(static_cast<double>(is.max[c]) <= largest * 1.0001);
      bool is_as_large = static_cast<double>(is.max[c]) >= largest * 0.8;  // a step is a factor of 1.19
      CHECK((is_as_large || factors[c] == 64.0f));                         // and 64 the largest factor
    }
    CHECK(static_cast<double>(done->ranges.at("expand").second) == doctest::Approx(largest).epsilon(0.001));
  }
}

TEST_CASE("values that are added share their factors") {
  Recipe recipe = default_recipe();
  Prepared p = prepared_model("activation=\"relu\"", recipe);
  REQUIRE(equalize(p.graph, recipe, p.ranges).ok());
  std::vector<float> factors = channel_factors(p.graph, *node_named(p.graph, "project"));
  CHECK(factors.size() == 6);
  CHECK(factors == channel_factors(p.graph, *node_named(p.graph, "added")));
  CHECK(channel_factors(p.graph, *node_named(p.graph, "head")).empty());
}

TEST_CASE("what it may not touch stays") {
  Recipe recipe = default_recipe();
  SUBCASE("an activation that is not homogeneous") {
    Prepared p = prepared_model("activation=\"hardswish\"", recipe);
    REQUIRE(equalize(p.graph, recipe, p.ranges).ok());
    CHECK(channel_factors(p.graph, *node_named(p.graph, "expand")).empty());
  }
  SUBCASE("a clamp from below zero") {
    Prepared p = prepared_model("activation=\"clamp\", activation_min=-1, activation_max=6", recipe);
    REQUIRE(equalize(p.graph, recipe, p.ranges).ok());
    CHECK(channel_factors(p.graph, *node_named(p.graph, "expand")).empty());
  }
  SUBCASE("no statistics") {
    Prepared p = prepared_model("activation=\"relu\"", recipe);
    p.ranges.channels.clear();
    REQUIRE(equalize(p.graph, recipe, p.ranges).ok());
    CHECK(p.graph.metadata.empty());
  }
  SUBCASE("a linear layer that reads another axis") {
    std::string text = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[2, 3, 5, 4]}
%1 = constant() {value=f32[4, 3, 1, 1]@"w1"}
%2 = conv(%0, %1) origins("expand")
%3 = constant() {value=f32[6, 4]@"w2"}
%4 = linear(%2, %3) origins("head")
output(%4) {names=["y"]}
)";
    Graph graph = parse_text(text, {{"w1", random_tensor({4, 3, 1, 1}, 1, {1.0f, 0.02f, 0.3f, 0.004f})},
                                    {"w2", random_tensor({6, 4}, 2)}})
                      .value();
    Ranges ranges;
    PassContext context{.recipe = &recipe, .ranges = &ranges};
    const std::string passes[] = {"prepare"};
    REQUIRE(run_passes(graph, passes, context).ok());
    ranges.channels["head"] = {{1, 1, 1, 1}, {0, 0, 0, 0}, {1.0f, 0.1f, 0.2f, 0.3f}, 1};
    REQUIRE(equalize(graph, recipe, ranges).ok());
    CHECK(graph.metadata.empty());
  }
  SUBCASE("one scale for all weights") {
    recipe.global->weight.kind = "min_max";
    recipe.global->weight.qscheme = QScheme::per_tensor_symmetric;
    Prepared p = prepared_model("activation=\"relu\"", recipe);
    REQUIRE(equalize(p.graph, recipe, p.ranges).ok());
    CHECK(p.graph.metadata.empty());
  }
}

TEST_CASE("quantizing the equalized model has the smaller error") {
  double error[2];
  for (bool equalization : {false, true}) {
    Recipe recipe = default_recipe();
    recipe.equalization = equalization;
    Prepared p = prepared_model("activation=\"relu\"", recipe);
    Tensor x = random_tensor({2, 3, 5, 5}, 9);
    std::vector<float> before = result_of(p.graph, x);
    PassContext context{.recipe = &recipe, .ranges = &p.ranges};
    const std::string passes[] = {"convert"};
    REQUIRE(run_passes(p.graph, passes, context).ok());
    error[equalization ? 1 : 0] = distance(before, result_of(p.graph, x));
  }
  CHECK(error[1] < 0.9 * error[0]);
}

TEST_CASE("channel statistics survive being saved, and merge") {
  Recipe recipe = default_recipe();
  Prepared a = prepared_model("activation=\"relu\"", recipe);
  Result<Ranges> back = Ranges::from_json(a.ranges.to_json());
  REQUIRE_MESSAGE(back.ok(), back.status().message());
  CHECK(back->to_json() == a.ranges.to_json());
  REQUIRE(back->merge(a.ranges).ok());
  const ChannelStatistics &twice = back->channels.at("depthwise"), &once = a.ranges.channels.at("depthwise");
  CHECK(twice.count == 2 * once.count);
  CHECK(twice.max == once.max);
  CHECK(twice.sum[0] == 2 * once.sum[0]);
  ChannelStatistics& broken = back->channels.at("depthwise");
  broken.min.pop_back();
  CHECK(Ranges::from_json(back->to_json()).status().code() == Code::invalid_data);
}

}  // namespace aoq
