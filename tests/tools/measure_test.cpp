// Measuring: statistics, and that every step of a plan gets its times.
#include "tools/measure.h"

#include <doctest/doctest.h>

#include "ir/text.h"
#include "tools/compiler.h"
#include "tools/row_race.h"

namespace aoq::tools {
namespace {

TEST_CASE("quantiles, spreads and ratios") {
  CHECK(quantile({}, 0.5) == 0);
  CHECK(quantile({3, 1, 2}, 0.5) == 2);
  CHECK(quantile({1, 2}, 0.5) == 1.5);
  CHECK(quantile({1, 2, 3, 4, 5}, 0.9) == doctest::Approx(4.6));
  CHECK(median({5, 1}) == 3);
  CHECK(spread({}) == 0);
  CHECK(spread({7}) == 0);
  CHECK(spread({0, 0}) == 0);
  CHECK(spread({9, 10, 11, 10, 500}) == doctest::Approx(0.14826));
  CHECK(ratios({2, 9, 4}, {1, 3}) == std::vector<double>{2, 3});
  CHECK(ratios({2, 9}, {0, 3}) == std::vector<double>{3});
}

constexpr const char* kModel = R"(aoqir 1 traced
symbol N [1, 64]
%0 = input() {dtype=f32, name="x", shape=[N, 4]}
%1 = constant() {value=f32[3, 4]{0.5, -0.25, 0.125, 1, -1, 0.75, 0.5, -0.5, 0.25, 0.25, -0.75, 0.5}}
%2 = linear(%0, %1) origins("fc")
%3 = reshape(%2) {shape=[3, N]} origins("view")
%4 = softmax(%3) origins("p")
%5 = exp(%4) origins("e")
output(%5, %3) {names=["p", "v"]}
)";

TEST_CASE("each run of a timed graph times each step, or the whole") {
  CompileOptions options;
  options.recipe.mode = QuantMode::none;
  Compiled compiled = compile_graph(parse_text(kModel, {}).value(), std::move(options)).value();
  const ModelOptions run = model_options({.threads = 1});
  const std::shared_ptr<const Model> model = Model::from_graph(compiled.graph.clone(), run).value();
  const std::vector<Tensor> inputs = made_up_inputs(*model, {{2, 4}}).value();
  CHECK(made_up_inputs(*model, {{2, 4}}).value()[0].as<float>()[5] == inputs[0].as<float>()[5]);
  std::unique_ptr<TimedGraph> a = TimedGraph::make(compiled.graph, run, inputs).value();
  std::unique_ptr<TimedGraph> b = TimedGraph::make(compiled.graph, run, inputs).value();
  REQUIRE(a->steps().size() == 3);
  CHECK(a->nodes()[0]->label() == "fc");
  CHECK(a->nodes()[2]->label() == "e");
  TimedGraph* const both[] = {a.get(), b.get()};
  const Console console;
  const std::size_t rounds = take_turns({both, inputs, true, 0.001, "steps"}, console).value();
  CHECK(rounds >= 7);
  for (TimedGraph* g : both) {
    for (std::size_t s = 0; s < 3; ++s) CHECK(g->step_times(s).size() == rounds);
    CHECK(g->whole_times().empty());
  }
  const std::size_t wholes = take_turns({both, inputs, false, 0.001, "wholes"}, console).value();
  CHECK(a->whole_times().size() == wholes);
  CHECK(a->step_times(0).size() == rounds);
}

constexpr const char* kDepthwise = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[1, 16, 8, 8]}
%1 = constant() {value=f32[16, 1, 1, 1]{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}}
%2 = conv(%0, %1) {groups=16} origins("a")
%3 = conv(%2, %1) {groups=16} origins("b")
%4 = softmax(%3) origins("p")
output(%4) {names=["y"]}
)";

TEST_CASE("a race of rows has a variant for every other row that takes a node") {
  CompileOptions options;
  options.recipe.mode = QuantMode::none;
  const Compiled compiled = compile_graph(parse_text(kDepthwise, {}).value(), std::move(options)).value();
  const ModelOptions run = model_options({.threads = 1});
  const std::shared_ptr<const Model> model = Model::from_graph(compiled.graph.clone(), run).value();
  const std::vector<Tensor> inputs = made_up_inputs(*model, {{1, 16, 8, 8}}).value();
  const RowRace race = RowRace::make(compiled.graph, run, inputs).value();
  REQUIRE(race.graphs().size() >= 2);
  std::vector<TimedGraph*> all;
  for (const auto& g : race.graphs()) all.push_back(g.get());
  REQUIRE(take_turns({all, inputs, true, 0.001, "steps"}, Console()).ok());
  Tuning tuning;
  const std::vector<MeasuredStep> steps = race.judge(tuning);
  REQUIRE(steps.size() == all[0]->steps().size());
  for (std::size_t s = 0; s < steps.size(); ++s) {
    CHECK(steps[s].label == all[0]->steps()[s].label);
    CHECK(steps[s].us >= 0);
  }
  // A chosen row is one that a variant ran, for a convolution here.
  for (const Tuning::Row& row : tuning.rows) {
    CHECK(row.op == "conv");
    CHECK(row.row != row.before);
  }
}

TEST_CASE("a batch that does not fit is an error") {
  CompileOptions options;
  options.recipe.mode = QuantMode::none;
  Compiled compiled = compile_graph(parse_text(kModel, {}).value(), std::move(options)).value();
  const std::vector<Tensor> inputs{Tensor::make(DType::f32, {2, 5}).value()};
  CHECK(TimedGraph::make(compiled.graph, model_options({.threads = 1}), inputs).status().code() == Code::invalid_data);
}

}  // namespace
}  // namespace aoq::tools
