// Statically quantized lstm and gru, by our own recipe: products only, or every value inside.
#include <cmath>

#include "passes/quantize/quantize.h"
#include "passes/quantize/simulate.h"
#include "tests/passes/quantize_support.h"

namespace aoq {
namespace {

constexpr std::int64_t kSteps = 6, kInput = 3, kHidden = 4;

Tensor waves(std::vector<std::int64_t> shape, float frequency, float amplitude = 1.0f) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  float i = 0;
  for (float& v : t.mutable_as<float>()) v = amplitude * std::sin(frequency * ++i);
  return t;
}

// x [T, 2, I] through one recurrent op in both directions to its states [T, 2, 2, H] and a linear layer.
Graph recurrent_graph(Op op, const Attributes& more = {}) {
  const std::int64_t rows = (op == Op::lstm ? 4 : op == Op::gru ? 3 : 1) * kHidden;
  Graph graph;
  Value* x = graph.input("x", Type{DType::f32, {kSteps, 2, kInput}, std::nullopt});
  Value* w = graph.constant(waves({2, rows, kInput}, 0.9f, 0.6f));
  Value* r = graph.constant(waves({2, rows, kHidden}, 1.7f, 0.5f));
  Value* bias = graph.constant(waves({2, 2 * rows}, 2.3f, 0.2f));
  Attributes a{{"hidden", kHidden}, {"direction", std::string("bidirectional")}};
  if (op == Op::gru) a.set("linear_before_reset", true);
  for (const auto& [name, value] : more) a.set(name, value);
  Node* n = graph.create(op, {x, w, r, bias}, a).value();
  n->origins = {"rnn"};
  Node* linear = graph.create(Op::linear, {n->output(), graph.constant(waves({3, kHidden}, 0.4f))}).value();
  linear->origins = {"head"};
  REQUIRE(graph.output({linear->output(), n->output(1)}, {"y", "h"}).ok());
  return graph;
}

struct Data : CalibrationData {
  int left = 3;
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (left == 0) return false;
    batch = {waves({kSteps, 2, kInput}, 0.3f + 0.2f * static_cast<float>(left--))};
    return true;
  }
};

std::vector<Tensor> results(const Graph& graph) {
  ReferenceExecutor executor;
  return executor.prepare(graph).value()->run(std::vector<Tensor>{waves({kSteps, 2, kInput}, 0.7f)}).value();
}

double relative_error(const Tensor& exact, const Tensor& found) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < exact.as<float>().size(); ++i) {
    const double e = static_cast<double>(exact.as<float>()[i]), d = static_cast<double>(found.as<float>()[i]) - e;
    error += d * d;
    norm += e * e;
  }
  return std::sqrt(error / norm);
}

int count(const Graph& graph, Op op) {
  int n = 0;
  for (const Node* node : graph.nodes()) n += node->is(op);
  return n;
}

const Node& recurrent_of(const Graph& graph) {
  for (const Node* n : graph.nodes()) {
    if (n->label() == "rnn" && !n->is(Op::constant) && !n->is(Op::dequantize)) return *n;
  }
  FAIL("there is no recurrent op");
  return *graph.first();
}

Recipe codes_recipe() {
  Recipe recipe = default_recipe();
  recipe.global->inner = recipe.global->activation;
  return recipe;
}

Graph quantized(Graph graph, const Recipe& recipe, Stage last, Ranges* ranges = nullptr) {
  Data data;
  QuantizeOptions options;
  options.data = &data;
  options.last = last;
  options.ranges = ranges;
  const Status status = quantize(graph, recipe, options);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return graph;
}

TEST_CASE("by default products of lstm and gru are int8 with static scales") {
  for (const Op op : {Op::lstm, Op::gru}) {
    CAPTURE(std::string(op_name(op)));
    const std::vector<Tensor> exact = results(recurrent_graph(op));
    const Graph reference = quantized(recurrent_graph(op), default_recipe(), Stage::quantized);
    CHECK(recurrent_of(reference).is(op));
    CHECK(recurrent_of(reference).attributes().has("state_scale"));
    const Graph graph = quantized(recurrent_graph(op), default_recipe(), Stage::lowered);
    const Node& n = recurrent_of(graph);
    CHECK(n.is(op == Op::lstm ? Op::qlstm : Op::qgru));
    CHECK(n.attributes().has("x_scale"));
    CHECK(n.attributes().has("state_scale"));
    CHECK(count(graph, Op::choose_qparams) == 0);
    CHECK(relative_error(exact[0], results(graph)[0]) < 0.03);
    CHECK(relative_error(results(reference)[0], results(graph)[0]) < 0.01);
  }
}

TEST_CASE("with an inner observer every value inside has a scale of its own") {
  for (const Op op : {Op::lstm, Op::gru}) {
    CAPTURE(std::string(op_name(op)));
    const std::vector<Tensor> exact = results(recurrent_graph(op));
    Ranges ranges;
    const Graph prepared = quantized(recurrent_graph(op), codes_recipe(), Stage::prepared);
    CHECK(count(prepared, op == Op::lstm ? Op::observed_lstm : Op::observed_gru) == 1);
    CHECK(relative_error(exact[0], results(prepared)[0]) == 0);
    const Graph graph = quantized(recurrent_graph(op), codes_recipe(), Stage::lowered, &ranges);
    CHECK(recurrent_of(graph).is(op == Op::lstm ? Op::qlstm_static : Op::qgru_static));
    CHECK(ranges.observers.contains("rnn.layers.0.layer_bw.cell.igates"));
    CHECK(ranges.observers.contains(op == Op::lstm ? "rnn.layers.0.layer_fw.cell.fgate_cx_igate_cgate"
                                                   : "rnn.layers.0.layer_fw.cell.inverse_zgate_ngate"));
    CHECK(relative_error(exact[0], results(graph)[0]) < 0.1);
    CHECK(relative_error(exact[1], results(graph)[1]) < 0.1);
  }
}

TEST_CASE("every time step is an observation") {
  Recipe recipe = codes_recipe();
  recipe.global->inner->kind = "moving_average_min_max";
  recipe.global->inner->averaging_constant = 0.25;
  Ranges ranges;
  quantized(recurrent_graph(Op::lstm), recipe, Stage::quantized, &ranges);
  // The same by hand: h of the backward direction, from the last time step to the first.
  Graph real = recurrent_graph(Op::lstm);
  Node* lstm = nullptr;
  for (Node* n : real.nodes()) lstm = n->is(Op::lstm) ? n : lstm;
  real.set_input(real.output_node(), 0, lstm->output());
  ReferenceExecutor executor;
  const std::unique_ptr<Executable> run = executor.prepare(real).value();
  const std::unique_ptr<Observer> expected = make_observer(*recipe.global->inner).value();
  Data data;
  for (std::vector<Tensor> batch; data.next(batch).value();) {
    const Tensor y = run->run(batch).value()[0];
    constexpr std::int64_t kBlock = 2 * kHidden;
    const std::int64_t shape[] = {2, kHidden};
    for (std::int64_t t = kSteps - 1; t >= 0; --t) {
      const std::byte* data_at = y.bytes().data() + (t * 2 + 1) * kBlock * 4;
      REQUIRE(expected->observe({DType::f32, shape, data_at}).ok());
    }
  }
  const auto found = ranges.observers.find("rnn.layers.0.layer_bw.cell.ogate_cy");
  REQUIRE(found != ranges.observers.end());
  CHECK(found->second->state() == expected->state());
}

TEST_CASE("recurrent ops without a static form stay in float and say why") {
  auto reason = [](Op op, const Attributes& more = {}) {
    return recurrent_of(quantized(recurrent_graph(op, more), default_recipe(), Stage::prepared)).reason;
  };
  CHECK(reason(Op::rnn) == "rnn has no static form");
  CHECK(reason(Op::gru, {{"linear_before_reset", false}}) ==
        "gru whose reset gate multiplies the state has no static form");
  CHECK(reason(Op::lstm, {{"input_forget", true}}) == "lstm with coupled gates has no static form");
  CHECK(reason(Op::lstm, {{"clip", 2.0}}) == "lstm with activations of its own or a clip has no static form");
  Recipe wide = default_recipe();
  wide.global->activation.dtype = DType::i16;
  CHECK(recurrent_of(quantized(recurrent_graph(Op::gru), wide, Stage::prepared)).reason ==
        "gru has a static form with u8 activations per tensor only");
}

TEST_CASE("what a target has no kernel for runs in float") {
  class Nothing : public TargetInfo {
    std::string_view name() const override { return "nothing"; }
    Status supports(const Node& n) const override {
      return n.is(Op::qlstm) ? error(Code::unsupported, "there is none") : Status();
    }
  };
  const Nothing target;
  Graph graph = recurrent_graph(Op::lstm);
  const std::vector<Tensor> exact = results(graph);
  Data data;
  QuantizeOptions options;
  options.data = &data;
  options.target = &target;
  REQUIRE(quantize(graph, default_recipe(), options).ok());
  const Node& n = recurrent_of(graph);
  CHECK(n.is(Op::lstm));
  CHECK(n.reason == "there is none");
  CHECK(!n.attributes().has("state_scale"));
  CHECK(relative_error(exact[0], results(graph)[0]) < 0.03);
}

TEST_CASE("an inner observer that fits nothing is refused") {
  auto recipe = [](const std::string& inner) {
    return parse_recipe(R"({"global": {"activation": {"kind": "histogram", "dtype": "u8"}, "weight": {"kind": "min_max",
      "dtype": "i8", "qscheme": "per_tensor_symmetric"}, "inner": )" +
                        inner + "}}");
  };
  CHECK(recipe(R"({"kind": "placeholder", "dtype": "f32"})").ok());
  CHECK(recipe(R"({"kind": "min_max", "dtype": "u8"})").ok());
  const Status wide = recipe(R"({"kind": "min_max", "dtype": "i16"})").status();
  CHECK(wide.id() == ErrorId::qconfig_unsupported);
  CHECK(says(wide, "inside recurrent ops"));
  const Recipe read = recipe_of(print_recipe(codes_recipe()));
  REQUIRE(read.global->inner);
  CHECK(*read.global->inner == *codes_recipe().global->inner);
}

TEST_CASE("simulation runs both forms") {
  for (const Recipe& recipe : {default_recipe(), codes_recipe()}) {
    const Graph reference = recurrent_graph(Op::lstm);
    const Graph graph = quantized(recurrent_graph(Op::lstm), recipe, Stage::quantized);
    ReferenceExecutor executor;
    Result<Simulation> simulation = Simulation::make(reference, graph, executor);
    REQUIRE_MESSAGE(simulation.ok(), simulation.status().message());
    const Tensor x = waves({kSteps, 2, kInput}, 0.7f);
    REQUIRE(simulation->run(std::vector<Tensor>{x}).ok());
    CHECK(!simulation->activations().empty());
    for (const Simulation::Entry& e : simulation->values()) CHECK(e.sqnr_db > 15);
  }
}

}  // namespace
}  // namespace aoq
