// Error figures by hand, and simulated runs of static, dynamic and weight-only recipes.
#include "passes/quantize/simulate.h"

#include <cmath>

#include "tests/passes/quantize_support.h"

namespace aoq {
namespace {

TEST_CASE("figures: relative error, SQNR and saturation by hand") {
  // Codes of a scale of 1/2 and zero point 1, from 0 to 3: -0.5, 0, 0.5, 1.
  const std::vector<float> x{-0.75f, -0.5f, 0.25f, 3, 1}, y{-0.5f, -0.5f, 0, 1, 1};
  const std::vector<std::uint8_t> codes{0, 0, 1, 3, 3};
  const Tensor code_tensor = *Tensor::copy_of(DType::u8, {5}, std::as_bytes(std::span(codes)));
  ErrorFigures figures;
  CHECK(!figures.saturation());
  figures.add(x, y, {code_tensor.view(), 0, 3});
  // |x|^2 = 0.5625 + 0.25 + 0.0625 + 9 + 1 = 10.875; |x - y|^2 = 0.0625 + 0 + 0.0625 + 4 + 0 = 4.125.
  CHECK(figures.relative_error() == doctest::Approx(std::sqrt(4.125 / 10.875)));
  CHECK(figures.sqnr_db() == doctest::Approx(20 * std::log10(std::sqrt(10.875) / std::sqrt(4.125))));
  // -0.75 and 3 lie outside; -0.5 and 1 are the ends themselves.
  CHECK(*figures.saturation() == doctest::Approx(2.0 / 5));
  // A second batch without errors: |x|^2 grows by 5, two codes more.
  figures.add(std::vector<float>{1, 2}, std::vector<float>{1, 2}, {code_tensor.view(), 0, 3});
  CHECK(figures.relative_error() == doctest::Approx(std::sqrt(4.125 / 15.875)));
  CHECK(*figures.saturation() == doctest::Approx(2.0 / 7));
}

TEST_CASE("figures: 3, 4 against 3, 4.5 is a tenth, 20 dB") {
  ErrorFigures figures;
  figures.add(std::vector<float>{3, 4}, std::vector<float>{3, 4.5f});
  CHECK(figures.relative_error() == doctest::Approx(0.1));
  CHECK(figures.sqnr_db() == doctest::Approx(20));
  CHECK(!figures.saturation());
}

TEST_CASE("figures: equal, zero and not finite") {
  ErrorFigures equal, zero, broken, both;
  const std::vector<float> none{0, 0}, some{1, 2}, nan{1, std::nanf("")};
  equal.add(some, some);
  CHECK(equal.relative_error() == 0);
  CHECK(equal.sqnr_db() == 999);
  zero.add(none, some);
  CHECK(std::isinf(zero.relative_error()));
  CHECK(zero.sqnr_db() == -999);
  broken.add(some, nan);
  CHECK(broken.sqnr_db() == -999);
  both.add(nan, nan);
  CHECK(both.relative_error() == 0);
}

Simulation simulation_of(const Graph& reference, const Graph& graph, Executor& executor) {
  Result<Simulation> s = Simulation::make(reference, graph, executor);
  REQUIRE_MESSAGE(s.ok(), s.status().message());
  return std::move(*s);
}

const Simulation::Entry& entry(const std::vector<Simulation::Entry>& list, std::string_view name) {
  for (const Simulation::Entry& e : list) {
    if (e.name == name) return e;
  }
  FAIL("no entry ", std::string(name));
  return list[0];
}

// y = relu(x * w) with w = 1, 0.4: i8 codes of a scale of 1/127.
constexpr const char* kOneLayer = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[1, 2]}
%1 = constant() {value=f32[1, 2]{1, 0.4}} origins("fc.weight")
%2 = linear(%0, %1) {activation="relu"} scope("fc", "Linear") origins("fc")
output(%2) {names=["y"]}
)";

TEST_CASE("a static recipe: stubs, weights and results have the figures that a hand computes") {
  Workflow w{recipe_of(R"({"bias_correction": false, "equalization": false, "global": {
    "activation": {"kind": "fixed_qparams", "dtype": "quint8", "scale": "0x1p-1", "zero_point": 1},
    "weight": {"kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric", "quant_min": -127,
               "quant_max": 127}}})")};
  w.graph = graph_of(kOneLayer);
  const Graph reference = w.graph.clone();
  Batches data({floats_of({1, 2}, {2, 1})});
  REQUIRE(w.run(Stage::quantized, &data).ok());
  ReferenceExecutor interpreter;
  Simulation simulation = simulation_of(reference, w.graph, interpreter);
  // x = 2.2, -1.5 becomes codes round(4.4) + 1 = 5 and -3 + 1, which saturates at 0: 2 and -0.5.
  Result<Simulation::Outputs> outputs = simulation.run(std::vector<Tensor>{floats_of({1, 2}, {2.2f, -1.5f})});
  REQUIRE_MESSAGE(outputs.ok(), outputs.status().message());
  const float weight = 51.0f * (1.0f / 127.0f);  // 0.4 * 127 = 50.8
  CHECK(outputs->reference[0].as<float>()[0] == doctest::Approx(2.2 - 1.5 * 0.4));
  CHECK(outputs->simulated[0].as<float>()[0] == doctest::Approx(2 - 0.5 * static_cast<double>(weight)));

  const Simulation::Entry x = entry(simulation.activations(), "x");
  CHECK(x.dtype == "u8");
  CHECK(x.relative_error == doctest::Approx(std::sqrt((0.04 + 1) / (2.2 * 2.2 + 1.5 * 1.5))));
  CHECK(*x.saturation == 0.5);
  const Simulation::Entry fc = entry(simulation.weights(), "fc.weight");
  const double rounding = 0.4 - 51.0 / 127.0;
  CHECK(fc.relative_error == doctest::Approx(std::fabs(rounding) / std::sqrt(1.16)).epsilon(1e-4));
  CHECK(fc.module == "fc");
  CHECK(*fc.saturation == 0);
  const Simulation::Entry y = entry(simulation.values(), "fc");
  CHECK(y.relative_error == doctest::Approx((2 - 0.5 * static_cast<double>(weight) - 1.6) / 1.6).epsilon(1e-4));
}

// A run with what the simulation computed must give the graph's own results.
void check_outputs(const Graph& graph, const std::vector<Tensor>& inputs, const Tensor& simulated) {
  ReferenceExecutor interpreter;
  std::unique_ptr<Executable> executable = interpreter.prepare(graph).value();
  const std::vector<Tensor> y = executable->run(inputs).value();
  CHECK(std::ranges::equal(y[0].bytes(), simulated.bytes()));
}

TEST_CASE("static, dynamic and weight-only recipes can all be simulated") {
  const std::vector<Tensor> inputs{floats_of({2, 2}, {0.9f, -0.4f, 0.3f, 1.7f})};
  for (const Recipe& recipe : {default_recipe(), default_dynamic_recipe(), default_weight_only_recipe()}) {
    CAPTURE(recipe.name);
    Workflow w{recipe};
    const Graph reference = w.graph.clone();
    const bool is_static = recipe.mode == QuantMode::static_quantization;
    REQUIRE((is_static ? w.run() : w.run(Stage::quantized, nullptr)).ok());
    ReferenceExecutor interpreter;
    Simulation simulation = simulation_of(reference, w.graph, interpreter);
    Result<Simulation::Outputs> outputs = simulation.run(inputs);
    REQUIRE_MESSAGE(outputs.ok(), outputs.status().message());
    check_outputs(reference, inputs, outputs->reference[0]);
    check_outputs(w.graph, inputs, outputs->simulated[0]);
    CHECK(simulation.weights().size() == 2);
    CHECK(entry(simulation.weights(), "net.fc1.weight").sqnr_db > 35);
    CHECK(entry(simulation.weights(), "net.fc2.weight").sqnr_db > 35);
    CHECK(entry(simulation.values(), "fc2").sqnr_db > 25);
    CHECK(entry(simulation.values(), "fc2").sqnr_db < 90);
    CHECK(simulation.activations().empty() == (recipe.mode == QuantMode::weight_only));
  }
}

TEST_CASE("a prepared graph and saved ranges are simulated without changing either") {
  Workflow w{default_recipe()};
  REQUIRE(w.run().ok());
  Workflow prepared{default_recipe()};
  REQUIRE(prepared.run(Stage::prepared, nullptr).ok());
  const std::string before = print_text(prepared.graph).text;
  Result<Graph> quantized = quantized_copy(prepared.graph, w.recipe, w.ranges);
  REQUIRE_MESSAGE(quantized.ok(), quantized.status().message());
  CHECK(print_text(*quantized).text == print_text(w.graph).text);
  CHECK(print_text(prepared.graph).text == before);
  ReferenceExecutor interpreter;
  Simulation simulation = simulation_of(prepared.graph, *quantized, interpreter);
  CHECK(simulation.run(std::vector<Tensor>{floats_of({1, 2}, {1, 1})}).ok());
}

// Two 1x1 convolutions; the first one's channels differ in size by 500, so that they are equalized.
constexpr const char* kUneven = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[1, 2, 1, 2]}
%1 = constant() {value=f32[2, 2, 1, 1]{1, -0.5, 0.002, 0.001}} origins("w1")
%2 = conv(%0, %1) {activation="relu"} origins("c1")
%3 = constant() {value=f32[2, 2, 1, 1]{0.5, 100, -1, 300}} origins("w2")
%4 = conv(%2, %3) origins("c2")
output(%4) {names=["y"]}
)";

TEST_CASE("equalized channels and weights are taken back to the float model's size") {
  Workflow w{default_recipe()};
  w.graph = graph_of(kUneven);
  const Graph reference = w.graph.clone();
  const Tensor x = floats_of({1, 2, 1, 2}, {1, 0.5f, 0.25f, 2});
  Batches data({x});
  REQUIRE(w.run(Stage::quantized, &data).ok());
  const bool is_equalized = std::any_of(w.graph.metadata.begin(), w.graph.metadata.end(),
                                        [](const auto& entry) { return entry.first.starts_with("aoq.equalized"); });
  REQUIRE(is_equalized);
  ReferenceExecutor interpreter;
  Simulation simulation = simulation_of(reference, w.graph, interpreter);
  REQUIRE(simulation.run(std::vector<Tensor>{x}).ok());
  for (const char* name : {"w1", "w2"}) CHECK(entry(simulation.weights(), name).sqnr_db > 30);
  for (const char* name : {"c1", "c2"}) CHECK(entry(simulation.values(), name).sqnr_db > 30);
  CHECK(entry(simulation.activations(), "c1").sqnr_db > 30);
}

TEST_CASE("graphs of other stages are refused") {
  Workflow w{default_recipe()};
  ReferenceExecutor interpreter;
  const Graph traced = w.graph.clone();
  CHECK(says(Simulation::make(traced, traced, interpreter).status(), "expected quantized"));
  REQUIRE(w.run().ok());
  CHECK(says(Simulation::make(w.graph, w.graph, interpreter).status(), "expected a float graph"));
}

}  // namespace
}  // namespace aoq
