// Whole models. They go through the text form at every stage and come back equal; the trained one keeps its accuracy.
//
// Models that are not part of this tree are looked for in $AOQ_MODELS (mobilenetv2.onnx, efficientnet_lite0.onnx) and
// where quickstart leaves magika; a missing one is named and skipped.
#include <doctest/doctest.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "formats/onnx/importer.h"
#include "ir/checked.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "runtime/session.h"
#include "tests/support/onnx_builder.h"
#include "tools/compiler.h"
#include "tools/runner.h"

namespace aoq::tools {
namespace {

namespace fs = std::filesystem;

Graph load(const std::string& path) {
  Result<LoadedModel> loaded = load_model(path);
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
  return std::move(loaded->graph);
}

// Numbers that suit any input: f32 in [-2, 2], integers that are bytes. Symbolic dimensions become 2.
Tensor made_up(const Type& type, std::mt19937& random) {
  std::vector<std::int64_t> shape;
  for (const Dim& d : type.shape) shape.push_back(d.is_constant() ? d.constant() : 2);
  Tensor t = Tensor::make(type.dtype, shape).value();
  std::uniform_real_distribution<float> real(-2.0f, 2.0f);
  if (type.dtype == DType::f32) {
    for (float& v : t.mutable_as<float>()) v = real(random);
  } else {
    REQUIRE(type.dtype == DType::i32);
    for (std::int32_t& v : t.mutable_as<std::int32_t>()) v = static_cast<std::int32_t>(random() % 256);
  }
  return t;
}

std::vector<Tensor> made_up_inputs(const Graph& graph, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Tensor> tensors;
  for (const Node* input : graph.input_nodes()) tensors.push_back(made_up(input->output()->type(), random));
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

CompileOptions int8_options(CalibrationData* data, Stage last) {
  CompileOptions options;
  options.recipe = default_recipe();
  options.data = data;
  options.last = last;
  options.cpu_class = "native";
  return options;
}

Graph compiled(Graph graph, CompileOptions options) {
  Result<Compiled> result = compile_graph(std::move(graph), std::move(options));
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  return std::move(result->graph);
}

// The graph, printed and read again. Printing that gives the same text and the same constants.
Graph through_text(const Graph& graph) {
  GraphText printed = print_text(graph);
  Result<Graph> read = parse_text(printed.text, printed.constants);
  REQUIRE_MESSAGE(read.ok(), read.status().message());
  Status valid = verify(*read);
  REQUIRE_MESSAGE(valid.ok(), valid.message());
  CHECK(read->stage == graph.stage);
  GraphText again = print_text(*read);
  CHECK(again.text == printed.text);
  CHECK(hash_constants(again.constants) == hash_constants(printed.constants));
  return std::move(*read);
}

Session session_of(Graph graph) {
  Result<std::shared_ptr<const Model>> model = Model::from_graph(std::move(graph), model_options({}));
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return Session::create(*model).value();
}

void check_same_results(Session& a, Session& b, const std::vector<Tensor>& inputs) {
  Result<std::span<const TensorView>> x = a.run(views_of(inputs)), y = b.run(views_of(inputs));
  REQUIRE_MESSAGE(x.ok(), x.status().message());
  REQUIRE_MESSAGE(y.ok(), y.status().message());
  REQUIRE(x->size() == y->size());
  for (std::size_t i = 0; i < x->size(); ++i) {
    const TensorView &one = (*x)[i], &two = (*y)[i];
    REQUIRE(std::ranges::equal(one.shape, two.shape));
    REQUIRE(one.dtype == DType::f32);
    CHECK(std::memcmp(one.data, two.data, static_cast<std::size_t>(one.element_count()) * 4) == 0);
  }
}

// `make` gives the traced graph anew. Every stage comes back equal, and what reads back from the last one runs the
// same.
void check_every_stage(const std::function<Graph()>& make) {
  through_text(make());
  CompileOptions plain;
  plain.recipe.mode = QuantMode::none;
  through_text(compiled(make(), std::move(plain)));
  for (Stage last : {Stage::prepared, Stage::quantized, Stage::lowered}) {
    Graph graph = make();
    Batches data;
    data.batches.push_back(made_up_inputs(graph, 1));
    Graph staged = compiled(std::move(graph), int8_options(&data, last));
    REQUIRE(staged.stage == last);
    Graph back = through_text(staged);
    if (last != Stage::lowered) continue;
    std::vector<Tensor> inputs = made_up_inputs(staged, 2);
    Session a = session_of(std::move(staged)), b = session_of(std::move(back));
    check_same_results(a, b, inputs);
  }
}

std::string beside(const char* name) {
  const char* given = std::getenv("AOQ_MODELS");
  return (fs::path(given != nullptr ? given : AOQ_SOURCE "/../shared/models") / name).string();
}

bool is_here(const std::string& path) {
  if (fs::exists(path)) return true;
  std::printf("[SKIP] %s is not here\n", path.c_str());
  return false;
}

constexpr const char* kResNet8 = AOQ_TEST_DATA "/models/fmnist_resnet8.onnx";
constexpr const char* kMagika = AOQ_SOURCE "/.cache/quickstart/magika/models/standard_v3_3/model.onnx";

// x [3, N, 5] through a bidirectional LSTM of 4 and a linear layer.
std::vector<std::byte> lstm_model() {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> real(-0.5f, 0.5f);
  auto weights = [&](const char* name, std::vector<std::int64_t> dims) {
    std::vector<float> values(static_cast<std::size_t>(*checked::element_count(dims)));
    for (float& v : values) v = real(random);
    return test::floats(name, dims, values);
  };
  test::OnnxBuilder b;
  b.input("x", test::kFloat, {3, "N", 5}).output("y");
  b.initializer(weights("W", {2, 16, 5})).initializer(weights("R", {2, 16, 4})).initializer(weights("B", {2, 32}));
  b.initializer(weights("fc", {8, 3})).initializer(test::int64s("flat", {3}, {3, -1, 8}));
  b.add("LSTM", {"x", "W", "R", "B"}, {"states"},
        {test::attribute("hidden_size", std::int64_t{4}), test::attribute("direction", "bidirectional")}, "lstm");
  b.add("Transpose", {"states"}, {"turned"}, {test::attribute("perm", std::vector<std::int64_t>{0, 2, 1, 3})});
  b.add("Reshape", {"turned", "flat"}, {"joined"}).add("MatMul", {"joined", "fc"}, {"y"}, {}, "fc");
  return b.bytes();
}

// ---- Fashion-MNIST, from Debian's dataset-fashion-mnist

// The values behind the header of an IDX file.
std::vector<std::uint8_t> read_idx(const std::string& path, std::size_t header, std::size_t count) {
  std::vector<std::uint8_t> values(header + count);
  gzFile file = gzopen(path.c_str(), "rb");
  REQUIRE(file != nullptr);
  int read = gzread(file, values.data(), static_cast<unsigned>(values.size()));
  gzclose(file);
  REQUIRE(read == static_cast<int>(values.size()));
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(header));
  return values;
}

constexpr std::int64_t kPixels = 28 * 28;

Tensor images_of(const std::vector<std::uint8_t>& pixels, std::int64_t first, std::int64_t count) {
  Tensor t = Tensor::make(DType::f32, {count, 1, 28, 28}).value();
  std::span<float> values = t.mutable_as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] =
        (static_cast<float>(pixels[static_cast<std::size_t>(first * kPixels) + i]) / 255.0f - 0.2860f) / 0.3530f;
  }
  return t;
}

struct Scores {
  int right = 0;
  std::vector<std::int64_t> classes;
};

Scores classify(Session& session, const std::vector<std::uint8_t>& pixels, const std::vector<std::uint8_t>& labels) {
  constexpr std::int64_t kBatch = 100;
  Scores scores;
  for (std::int64_t first = 0; first < static_cast<std::int64_t>(labels.size()); first += kBatch) {
    Tensor images = images_of(pixels, first, kBatch);
    const TensorView inputs[] = {images.view()};
    Result<std::span<const TensorView>> outputs = session.run(inputs);
    REQUIRE_MESSAGE(outputs.ok(), outputs.status().message());
    const auto* logits = reinterpret_cast<const float*>((*outputs)[0].data);
    for (std::int64_t i = 0; i < kBatch; ++i) {
      const float* row = logits + i * 10;
      std::int64_t best = std::max_element(row, row + 10) - row;
      scores.classes.push_back(best);
      scores.right += best == labels[static_cast<std::size_t>(first + i)];
    }
  }
  return scores;
}

}  // namespace

TEST_CASE("ResNet-8 reads back at every stage") {
  check_every_stage([] { return load(kResNet8); });
}

TEST_CASE("an LSTM reads back at every stage") {
  std::vector<std::byte> bytes = lstm_model();
  check_every_stage([&] {
    Result<Graph> graph = onnx::import_onnx(bytes);
    REQUIRE_MESSAGE(graph.ok(), graph.status().message());
    return std::move(*graph);
  });
}

TEST_CASE("MobileNetV2, EfficientNet-Lite0 and magika read back at every stage") {
  for (const std::string& path :
       {beside("mobilenetv2.onnx"), beside("efficientnet_lite0.onnx"), std::string(kMagika)}) {
    INFO(path);
    if (is_here(path)) check_every_stage([&] { return load(path); });
  }
}

TEST_CASE("ResNet-8 on the 10,000 test images of Fashion-MNIST: float 91.50 %, int8 at least 91.2 %") {
  const std::string images = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
  const std::string labels = "/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz";
  const std::string training = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz";
  if (!is_here(images)) return;
  std::vector<std::uint8_t> pixels = read_idx(images, 16, 10000 * kPixels), expected = read_idx(labels, 8, 10000);
  CompileOptions plain;
  plain.recipe.mode = QuantMode::none;
  Session real = session_of(compiled(load(kResNet8), std::move(plain)));
  Batches data;
  data.batches.push_back({images_of(read_idx(training, 16, 128 * kPixels), 0, 128)});
  Graph quantized = compiled(load(kResNet8), int8_options(&data, Stage::lowered));
  Session integer = session_of(std::move(quantized));
  Scores a = classify(real, pixels, expected), b = classify(integer, pixels, expected);
  int same = 0;
  for (std::size_t i = 0; i < a.classes.size(); ++i) same += a.classes[i] == b.classes[i];
  MESSAGE("float ", a.right, ", int8 ", b.right, ", the same class ", same, " of 10000");
  CHECK(a.right == 9150);
  CHECK(b.right >= 9120);
  CHECK(same >= 9850);
}

}  // namespace aoq::tools
