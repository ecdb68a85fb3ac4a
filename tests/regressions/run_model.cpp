// Small models for counting instructions.
//
//   run_model prepare FOLDER RESNET8.onnx     writes FOLDER/NAME.aoq of every model and prints the names
//   run_model run FILE.aoq                    three inferences, the last of them in aoq_counted_run(), and prints a
//   result
//
// One thread, and no kernel of another library: the counts are ours and the same from run to run.
#include <fmt/core.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <random>

#include "formats/aoq/aoq.h"
#include "formats/io/file.h"
#include "formats/onnx/importer.h"
#include "ir/checked.h"
#include "passes/torchao/quantize_model.h"
#include "tests/support/onnx_builder.h"
#include "tools/compiler.h"
#include "tools/model_file.h"
#include "tools/runner.h"

namespace aoq::tools {
namespace {

// Uniform numbers from a fixed seed.
class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  std::vector<float> values(std::int64_t count, float bound) {
    std::vector<float> all(static_cast<std::size_t>(count));
    for (float& v : all) v = (static_cast<float>(engine_() >> 8) / static_cast<float>(1 << 23) - 1.0f) * bound;
    return all;
  }
  test::Message weights(const char* name, const std::vector<std::int64_t>& dims, float bound) {
    return test::floats(name, dims, values(*checked::element_count(dims), bound));
  }

 private:
  std::mt19937 engine_;
};

// x [24, 1, 40] through an LSTM of 48 and a linear layer: y [24, 1, 12].
std::vector<std::byte> lstm_model() {
  Random random(7);
  test::OnnxBuilder b;
  b.input("x", test::kFloat, {24, 1, 40}).output("y");
  b.initializer(random.weights("W", {1, 192, 40}, 0.2f)).initializer(random.weights("R", {1, 192, 48}, 0.2f));
  b.initializer(random.weights("B", {1, 384}, 0.1f)).initializer(random.weights("fc", {48, 12}, 0.3f));
  b.initializer(test::int64s("flat", {3}, {24, 1, 48}));
  b.add("LSTM", {"x", "W", "R", "B"}, {"states"}, {test::attribute("hidden_size", std::int64_t{48})}, "lstm");
  b.add("Reshape", {"states", "flat"}, {"joined"}).add("MatMul", {"joined", "fc"}, {"y"}, {}, "fc");
  return b.bytes();
}

// x [7, 128] through linear layers of 256 and 256, each with ReLU, and one of 10 with softmax. Seven rows leave each
// tile a remainder.
std::vector<std::byte> mlp_model() {
  Random random(8);
  test::OnnxBuilder b;
  b.input("x", test::kFloat, {7, 128}).output("y");
  b.initializer(random.weights("w1", {128, 256}, 0.15f)).initializer(random.weights("b1", {256}, 0.1f));
  b.initializer(random.weights("w2", {256, 256}, 0.1f)).initializer(random.weights("b2", {256}, 0.1f));
  b.initializer(random.weights("w3", {256, 10}, 0.1f)).initializer(random.weights("b3", {10}, 0.1f));
  b.add("Gemm", {"x", "w1", "b1"}, {"h1"}, {}, "fc1").add("Relu", {"h1"}, {"r1"});
  b.add("Gemm", {"r1", "w2", "b2"}, {"h2"}, {}, "fc2").add("Relu", {"h2"}, {"r2"});
  b.add("Gemm", {"r2", "w3", "b3"}, {"h3"}, {}, "fc3").add("Softmax", {"h3"}, {"y"});
  return b.bytes();
}

Result<Tensor> made_up(const Type& type, Random& random) {
  std::vector<std::int64_t> shape;
  for (const Dim& d : type.shape) shape.push_back(d.is_constant() ? d.constant() : 1);
  if (type.dtype != DType::f32) return error(Code::invalid_argument, "run_model: an input is not f32");
  AOQ_ASSIGN(Tensor t, Tensor::make(type.dtype, shape));
  std::vector<float> values = random.values(t.view().element_count(), 1.0f);
  std::memcpy(t.mutable_as<float>().data(), values.data(), values.size() * sizeof(float));
  return t;
}

Result<std::vector<Tensor>> made_up_inputs(const Graph& graph, unsigned seed) {
  Random random(seed);
  std::vector<Tensor> tensors;
  for (const Node* input : graph.input_nodes()) {
    AOQ_ASSIGN(Tensor t, made_up(input->output()->type(), random));
    tensors.push_back(std::move(t));
  }
  return tensors;
}

struct Batches : CalibrationData {
  std::vector<std::vector<Tensor>> batches;
  std::size_t at = 0;
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (at == batches.size()) return false;
    batch = batches[at++];
    return true;
  }
};

Result<Recipe> float_recipe() {
  Recipe recipe;
  recipe.mode = QuantMode::none;
  return recipe;
}

// Linear layers by one of torchao's configurations.
Result<Recipe> named_recipe(const char* name) {
  Recipe recipe;
  recipe.mode = QuantMode::weight_only;
  recipe.bias_correction = recipe.equalization = false;
  AOQ_ASSIGN(recipe.configs, torchao::named_rules(name));
  return recipe;
}

using MakeGraph = std::function<Result<Graph>()>;
using MakeRecipe = std::function<Result<Recipe>()>;

Status prepare(const std::string& path, const MakeGraph& make, const MakeRecipe& recipe) {
  AOQ_ASSIGN(Graph graph, make());
  Batches data;
  for (unsigned seed : {1u, 2u}) {
    AOQ_ASSIGN(std::vector<Tensor> batch, made_up_inputs(graph, seed));
    data.batches.push_back(std::move(batch));
  }
  CompileOptions options;
  AOQ_ASSIGN(options.recipe, recipe());
  options.run = {.threads = 1, .deterministic = true};
  if (options.recipe.mode == QuantMode::static_quantization) options.data = &data;
  AOQ_ASSIGN(Compiled compiled, compile_graph(std::move(graph), std::move(options)));
  AOQ_ASSIGN(std::vector<std::byte> bytes, write_aoq(compiled.graph));
  return write_file_atomically(path, bytes);
}

Status prepare_all(const std::string& folder, const std::string& resnet8_path) {
  MakeGraph resnet8 = [&]() -> Result<Graph> {
    AOQ_ASSIGN(LoadedModel loaded, load_model(resnet8_path));
    return std::move(loaded.graph);
  };
  MakeGraph lstm = [] { return onnx::import_onnx(lstm_model()); };
  MakeGraph mlp = [] { return onnx::import_onnx(mlp_model()); };
  struct Entry {
    const char* name;
    MakeGraph graph;
    MakeRecipe recipe;
  };
  const Entry entries[] = {
      {"resnet8_float", resnet8, float_recipe},
      {"resnet8_static", resnet8, default_recipe},
      {"lstm_float", lstm, float_recipe},
      {"lstm_dynamic", lstm, default_dynamic_recipe},
      {"mlp_float", mlp, float_recipe},
      {"mlp_static", mlp, default_recipe},
      {"mlp_dynamic", mlp, default_dynamic_recipe},
      {"mlp_int4", mlp, [] { return named_recipe("int4-weight-only"); }},
      {"mlp_8da4w", mlp, [] { return named_recipe("8da4w"); }},
  };
  for (const Entry& e : entries) {
    AOQ_TRY(prepare(fmt::format("{}/{}.aoq", folder, e.name), e.graph, e.recipe));
    fmt::print("{}\n", e.name);
  }
  return {};
}

using Outputs = Result<std::span<const TensorView>>;

}  // namespace

// What callgrind is told to count.
extern "C" __attribute__((noinline, visibility("default"))) void aoq_counted_run(Session& session,
                                                                                 std::span<const TensorView> inputs,
                                                                                 Outputs& outputs) {
  outputs = session.run(inputs);
}

namespace {

// The first run makes the plan, the second finds every buffer in use, the third counts.
Status run(const std::string& path) {
  AOQ_ASSIGN(std::shared_ptr<const Model> model,
             Model::open(path, model_options({.threads = 1, .deterministic = true})));
  AOQ_ASSIGN(Session session, Session::create(model));
  AOQ_ASSIGN(std::vector<Tensor> inputs, made_up_inputs(model->graph(), 3));
  std::vector<TensorView> views = views_of(inputs);
  for (int i = 0; i < 2; ++i) AOQ_TRY(session.run(views).status());
  Outputs outputs = std::span<const TensorView>();
  aoq_counted_run(session, views, outputs);
  AOQ_TRY(outputs.status());
  fmt::print("{}\n", *reinterpret_cast<const float*>((*outputs)[0].data));
  return {};
}

Status main_of(const std::vector<std::string>& args) {
  if (args.size() == 3 && args[0] == "prepare") return prepare_all(args[1], args[2]);
  if (args.size() == 2 && args[0] == "run") return run(args[1]);
  return error(Code::invalid_argument, "usage: run_model prepare FOLDER RESNET8.onnx, or run_model run FILE.aoq");
}

}  // namespace
}  // namespace aoq::tools

int main(int argc, char** argv) {
  aoq::Status status = aoq::tools::main_of({argv + 1, argv + argc});
  if (status.ok()) return 0;
  fmt::print(stderr, "{}\n", status.message());
  return 1;
}
