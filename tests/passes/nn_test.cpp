#include "ir/nn/recurrent.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ir/interpreter.h"
#include "ir/nn/region_module.h"
#include "passes/fx/workflow.h"

namespace aoq::nn {
namespace {

Type floats(std::vector<Dim> shape) {
  Type t;
  t.shape = std::move(shape);
  return t;
}

Tensor counting(std::vector<std::int64_t> shape, float step = 0.125f) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  float v = -1.0f;
  for (float& x : t.mutable_as<float>()) {
    x = v;
    v += step;
    if (v > 1.0f) v = -1.0f;
  }
  return t;
}

void fill(Module& m) {
  float step = 0.0625f;
  for (const auto& [name, p] : m.parameters()) {
    REQUIRE(p->set(counting(p->tensor().shape(), step)).ok());
    step += 0.03125f;
  }
}

std::vector<Tensor> run(const Graph& graph, const std::vector<Tensor>& inputs) {
  ReferenceExecutor executor;
  return executor.prepare(graph).value()->run(inputs).value();
}

struct Block : Module {
  using Module::Module;
  Linear fc{at("fc"), 4, 4};
  const char* type_name() const override { return "Block"; }
  Proxy forward(const Proxy& x) override { return F::relu(fc(x)) + x; }
};

struct Model : Module {
  Block first{at("first")}, second{at("second")};
  Parameter offset{*this, "offset", {4}};
  const char* type_name() const override { return "Model"; }
  Proxy forward(const Proxy& x) override {
    const Proxy y = second(first(x));
    return y + offset(x);
  }
};

TEST_CASE("nodes carry module paths, types, callees and FX's names") {
  Model model;
  const Graph graph = symbolic_trace(model, {"x", floats({2, 4})}).value();
  CHECK(fx::print_fx(graph) ==
        "placeholder | x | x | ()\n"
        "call_module | first_fc | first.fc | (x)\n"
        "call_function | relu | relu | (first_fc)\n"
        "call_function | add | add | (relu, x)\n"
        "call_module | second_fc | second.fc | (add)\n"
        "call_function | relu_1 | relu | (second_fc)\n"
        "call_function | add_1 | add | (relu_1, add)\n"
        "get_attr | offset | offset | ()\n"
        "call_function | add_2 | add | (add_1, offset)\n"
        "output | output | output | (add_2)\n");
  int linears = 0;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::relu)) CHECK(n->scope.callee == "F.relu");
    if (!n->is(Op::linear)) continue;
    CHECK(n->scope == Scope{linears == 0 ? "first.fc" : "second.fc", "Linear", {}});
    ++linears;
  }
  CHECK(linears == 2);
}

TEST_CASE("names are FX's: builtins are avoided, numbers counted up") {
  Namer names;
  CHECK(names.create("input") == "input_1");
  CHECK(names.create("2.0") == "_2_0");
  CHECK(names.create("relu") == "relu");
  CHECK(names.create("relu") == "relu_1");
  CHECK(names.create("relu_1") == "relu_2");
  CHECK(names.create("relu") == "relu_3");
}

TEST_CASE("transpose_for_scores reads as it does in Python") {
  struct Scores : Module {
    const char* type_name() const override { return "Scores"; }
    Proxy forward(const Proxy& x) override {
      Shape shape = x.sizes();
      shape.pop_back();
      shape.insert(shape.end(), {2, 3});
      return x.view(shape).permute({0, 2, 1, 3});
    }
  } scores;
  const Graph graph = symbolic_trace(scores, {"x", floats({Dim::symbol("B"), Dim::symbol("T"), 6})}).value();
  CHECK(to_string(graph.output_node()->input(0)->type()) == "f32[B, 2, T, 3]");
  const Tensor x = counting({1, 2, 6});
  const Tensor y = run(graph, {x})[0];
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t t = 0; t < 2; ++t) {
      for (std::int64_t k = 0; k < 3; ++k) {
        CHECK(y.as<float>()[static_cast<std::size_t>((h * 2 + t) * 3 + k)] ==
              x.as<float>()[static_cast<std::size_t>(t * 6 + h * 3 + k)]);
      }
    }
  }
}

TEST_CASE("indexing, chunks and arithmetic with numbers") {
  struct Slices : Module {
    Proxy forward(const Proxy& x) override {
      const Proxies halves = x.chunk(2, 1);
      const Proxy last = x[{Index::all(), -1}];
      return 2.0 - halves[0][{Index::all(), Index::slice({}, {}, 2)}] * halves[1][{Index::all(), Index::slice(1)}] +
             last.unsqueeze(1) / 4.0;
    }
  } slices;
  const Graph graph = symbolic_trace(slices, {"x", floats({2, 4})}).value();
  const Tensor x = counting({2, 4});
  const Tensor y = run(graph, {x})[0];
  REQUIRE(y.shape() == std::vector<std::int64_t>{2, 1});
  for (std::size_t r = 0; r < 2; ++r) {
    const float* v = x.as<float>().data() + r * 4;
    CHECK(y.as<float>()[r] == 2.0f - v[0] * v[3] + v[3] / 4.0f);
  }
}

TEST_CASE("what does not fit is reported with the module") {
  struct Wrong : Module {
    Linear fc{at("fc"), 5, 2};
    const char* type_name() const override { return "Wrong"; }
    Proxy forward(const Proxy& x) override { return fc(x) + x; }
  } wrong;
  const Status status = symbolic_trace(wrong, {"x", floats({2, 4})}).status();
  CHECK(status.code() == Code::invalid_model);
  CHECK(std::string(status.message()).find("module \"fc\" (Linear)") != std::string::npos);
}

TEST_CASE("a module without a forward, and an unknown dimension, are errors of the trace") {
  struct Empty : Module {
  } empty;
  CHECK(symbolic_trace(empty, {"x", floats({2})}).status().code() == Code::invalid_argument);
  struct Far : Module {
    Proxy forward(const Proxy& x) override { return x.mean({7}); }
  } far;
  CHECK(std::string(symbolic_trace(far, {"x", floats({2, 3})}).status().message()).find("dimension 7") !=
        std::string::npos);
}

TEST_CASE("a state is loaded whole or not at all") {
  Model model;
  fill(model);
  StateDict state = model.state();
  CHECK(state.size() == 5);
  state["first.fc.bias"] = counting({3});
  state["first.fc.bia"] = counting({4});
  state.erase("offset");
  state["second.fc.weight"] = counting({4, 4}, 0.5f);
  const Tensor before = model.second.fc.weight.tensor();
  const std::string message(model.load_state(state).message());
  CHECK(message.find("missing: offset") != std::string::npos);
  CHECK(message.find("not of this model: first.fc.bia") != std::string::npos);
  CHECK(message.find("first.fc.bias is f32[3], expected f32[4]") != std::string::npos);
  CHECK(model.second.fc.weight.tensor().bytes().data() == before.bytes().data());
  state = model.state();
  state["bn.num_batches_tracked"] = Tensor::make(DType::i64, {}).value();
  CHECK(model.load_state(state).ok());
}

TEST_CASE("a leaf by name is one unit of an unknown kind") {
  Model model;
  TraceOptions options;
  options.leaf_names = {"first"};
  const Graph graph = symbolic_trace(model, {"x", floats({2, 4})}, options).value();
  CHECK(fx::print_fx(graph).find("call_module | first | first | (x)\n") != std::string::npos);
  options.leaf_names.clear();
  options.leaf_classes = {"Block"};
  const Graph both = symbolic_trace(model, {"x", floats({2, 4})}, options).value();
  CHECK(fx::print_fx(both).find("call_module | second | second | (first)\n") != std::string::npos);
}

// PyTorch's equations, written out; gates i, f, g, o.
std::vector<float> lstm_by_hand(const LSTM& lstm, const Tensor& x, std::int64_t steps, std::int64_t hidden) {
  const auto all = lstm.parameters();
  auto at = [&](const char* name) { return all.at(name)->tensor().as<float>(); };
  const std::int64_t input = x.shape()[2];
  std::vector<float> h(static_cast<std::size_t>(hidden)), c = h, out;
  for (std::int64_t t = 0; t < steps; ++t) {
    std::vector<double> gates(static_cast<std::size_t>(4 * hidden));
    for (std::int64_t g = 0; g < 4 * hidden; ++g) {
      double sum = static_cast<double>(at("bias_ih_l0")[static_cast<std::size_t>(g)]) +
                   static_cast<double>(at("bias_hh_l0")[static_cast<std::size_t>(g)]);
      for (std::int64_t k = 0; k < input; ++k) {
        sum += static_cast<double>(x.as<float>()[static_cast<std::size_t>(t * input + k)]) *
               static_cast<double>(at("weight_ih_l0")[static_cast<std::size_t>(g * input + k)]);
      }
      for (std::int64_t k = 0; k < hidden; ++k) {
        sum += static_cast<double>(h[static_cast<std::size_t>(k)]) *
               static_cast<double>(at("weight_hh_l0")[static_cast<std::size_t>(g * hidden + k)]);
      }
      gates[static_cast<std::size_t>(g)] = sum;
    }
    auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
    for (std::int64_t k = 0; k < hidden; ++k) {
      const auto i = static_cast<std::size_t>(k), n = static_cast<std::size_t>(hidden);
      c[i] = static_cast<float>(sigmoid(gates[n + i]) * static_cast<double>(c[i]) +
                                sigmoid(gates[i]) * std::tanh(gates[2 * n + i]));
    }
    for (std::int64_t k = 0; k < hidden; ++k) {
      const auto i = static_cast<std::size_t>(k), n = static_cast<std::size_t>(hidden);
      h[i] = static_cast<float>(sigmoid(gates[3 * n + i]) * std::tanh(static_cast<double>(c[i])));
    }
    out.insert(out.end(), h.begin(), h.end());
  }
  return out;
}

TEST_CASE("an LSTM has PyTorch's order of gates") {
  LSTM lstm({}, 3, 2, {.batch_first = true});
  fill(lstm);
  const Graph graph = symbolic_trace(lstm, {"x", floats({1, 4, 3})}).value();
  const Tensor x = counting({1, 4, 3});
  const Tensor y = run(graph, {x})[0];
  REQUIRE(y.shape() == std::vector<std::int64_t>{1, 4, 2});
  const std::vector<float> expected = lstm_by_hand(lstm, x, 4, 2);
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(y.as<float>()[i] == doctest::Approx(expected[i]).epsilon(1e-5));
}

TEST_CASE("cells take a step of the layer") {
  GRU gru({}, 3, 2);
  GRUCell cell({}, 3, 2);
  fill(gru);
  StateDict state;
  for (const auto& [name, tensor] : gru.state()) state[name.substr(0, name.size() - 3)] = tensor;
  REQUIRE(cell.load_state(state).ok());
  const Graph layer = symbolic_trace(gru, {"x", floats({1, 2, 3})}).value();
  const Graph step = symbolic_trace(cell, {"x", floats({2, 3})}).value();
  const Tensor a = run(layer, {counting({1, 2, 3})})[0], b = run(step, {counting({2, 3})})[0];
  CHECK(std::equal(a.as<float>().begin(), a.as<float>().end(), b.as<float>().begin()));
}

TEST_CASE("two layers and directions, states in and out") {
  struct Both : ModuleOf<Both> {
    LSTM lstm{at("lstm"), 3, 2, {.layers = 2, .bidirectional = true}};
    const char* type_name() const override { return "Both"; }
    using Module::forward;
    RecurrentResult forward(const Proxy& x, const Proxy& h, const Proxy& c) { return lstm(x, h, c); }
  } both;
  fill(both);
  const std::vector<TraceInput> inputs{{"x", floats({5, 1, 3})}, {"h", floats({4, 1, 2})}, {"c", floats({4, 1, 2})}};
  const Graph graph = symbolic_trace(both, inputs, [&](std::span<const Proxy> in) {
                        const RecurrentResult r = both(in[0], in[1], in[2]);
                        return Proxies{r.output, r.h, r.c};
                      }).value();
  const std::vector<Tensor> y = run(graph, {counting({5, 1, 3}), counting({4, 1, 2}), counting({4, 1, 2})});
  CHECK(y[0].shape() == std::vector<std::int64_t>{5, 1, 4});
  CHECK(y[1].shape() == std::vector<std::int64_t>{4, 1, 2});
  // The forward direction ends in the last step's first half.
  CHECK(y[0].as<float>()[16] == y[1].as<float>()[4]);
}

TEST_CASE("attention of one head is softmax(q k) v") {
  MultiheadAttention attention({}, 4, 1);
  fill(attention);
  const Graph graph = symbolic_trace(attention, {"x", floats({1, 3, 4})}).value();
  CHECK(fx::print_fx(graph).find("call_module | MultiheadAttention |") != std::string::npos);
  CHECK(run(graph, {counting({1, 3, 4})})[0].shape() == std::vector<std::int64_t>{1, 3, 4});
  MultiheadAttention wrong({}, 4, 3);
  CHECK(symbolic_trace(wrong, {"x", floats({1, 3, 4})}).status().code() == Code::invalid_argument);
}

TEST_CASE("norms, pools and convolutions have PyTorch's shapes") {
  Sequential model;
  model.add<Conv2d>(3, 8, Sizes{3}, ConvOptions{.stride = {2}, .padding = {1}});
  model.add<BatchNorm2d>(8);
  model.add<GroupNorm>(2, 8);
  model.add<LeakyReLU>();
  model.add<MaxPool2d>(Sizes{2});
  model.add<ConvTranspose2d>(8, 4, Sizes{2}, ConvOptions{.stride = {2}});
  model.add<AdaptiveAvgPool2d>(Sizes{2});
  model.add<Flatten>();
  model.add<Dropout>();
  model.add<LayerNorm>(Sizes{16});
  model.add<Softmax>(1);
  const Graph graph = symbolic_trace(model, {"x", floats({2, 3, 16, 16})}).value();
  CHECK(to_string(graph.output_node()->input(0)->type()) == "f32[2, 16]");
  const Tensor y = run(graph, {counting({2, 3, 16, 16})})[0];
  float sum = 0;
  for (std::size_t i = 0; i < 16; ++i) sum += y.as<float>()[i];
  CHECK(sum == doctest::Approx(1.0));
  CHECK(model.find("5")->type_name() == std::string("ConvTranspose2d"));
  CHECK(model.find("11") == nullptr);
}

TEST_CASE("an adaptive pool that does not divide says what to do") {
  AdaptiveAvgPool2d pool({}, Sizes{3});
  const Status status = symbolic_trace(pool, {"x", floats({1, 2, 7, 7})}).status();
  CHECK(status.code() == Code::unsupported);
  CHECK(std::string(status.message()).find("use avg_pool") != std::string::npos);
}

}  // namespace
}  // namespace aoq::nn
