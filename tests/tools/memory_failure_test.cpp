// What happens when memory ends: every allocation in turn fails, alone or with all that follow, while a model is
// loaded, run and compiled and while each kind of file is read. Each time there must be a result or a resource_limit,
// and no leak.
#include <doctest/doctest.h>

#include "formats/aoq/aoq.h"
#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "formats/onnx/importer.h"
#include "formats/safetensors/safetensors.h"
#include "ir/guard.h"
#include "ir/text.h"
#include "passes/pipeline.h"
#include "passes/quantize/calibration.h"
#include "runtime/graph_executor.h"
#include "runtime/session.h"
#include "tests/support/count_allocations.h"
#include "tests/support/onnx_builder.h"
#include "tools/machine.h"

namespace aoq {
namespace {

using test::Failing;

// Calls `work` with allocation 0, step, 2 * step, ... failing, until one run needs no more of them.
template <class Work>
void sweep(const char* what, std::int64_t step, Work&& work) {
  CAPTURE(what);
  REQUIRE(work().ok());  // also makes what is made once
  for (Failing failing : {Failing::once, Failing::from_then_on}) {
    std::int64_t refused = 0;
    for (std::int64_t n = 0;; n += step) {
      test::fail_allocation(n, failing);
      Status status = guarded([&] { return work(); });
      const bool failed = test::stop_failing_allocations();
      if (!status.ok()) {
        ++refused;
        CHECK_MESSAGE(status.code() == Code::resource_limit, "allocation " << n << ": " << status.message());
      }
      if (!failed) {
        CHECK(status.ok());
        break;
      }
    }
    CHECK(refused > 0);
  }
}

const char* kModel =
    "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=f32, name=\"x\", shape=[N, 2, 4, 4]}\n"
    "%1 = constant() {value=f32[3, 2, 1, 1]{1, -2, 3, 0.5, 0.25, -1}}\n%2 = conv(%0, %1) {activation=\"relu\"} "
    "origins(\"conv\")\n"
    "%3 = max_pool(%2) {kernel=[2, 2], stride=[2, 2]}\n%4 = reshape(%3) {shape=[N, 12]}\n"
    "%5 = constant() {value=f32[1, 12]{1, 2, 3, 4, 5, 6, -7, 8, 9, 1, 2, 3}}\n%6 = linear(%4, %5) origins(\"fc\")\n"
    "output(%6) {names=[\"y\"]}\n";

Result<Graph> model_graph() {
  return parse_text(kModel, {});
}

Result<Tensor> sample() {
  AOQ_ASSIGN(Tensor x, Tensor::make(DType::f32, {2, 2, 4, 4}));
  float v = -1.0f;
  for (float& e : x.mutable_as<float>()) e = v += 0.1f;
  return x;
}

class OneBatch : public CalibrationData {
 public:
  explicit OneBatch(Result<Tensor> batch) : batch_(std::move(batch)) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (is_done_) return false;
    is_done_ = true;
    AOQ_ASSIGN(Tensor tensor, batch_);
    batch.assign(1, std::move(tensor));
    return true;
  }

 private:
  Result<Tensor> batch_;
  bool is_done_ = false;
};

// What compile does to a graph.
Result<Graph> compile(QuantMode mode) {
  AOQ_ASSIGN(Graph graph, model_graph());
  OneBatch data(sample());
  GraphExecutor executor(tools::model_options({.threads = 1, .deterministic = true}));
  const std::unique_ptr<TargetInfo> target = tools::make_target();
  const Recipe recipe = default_recipe();
  Ranges ranges;
  PassContext context;
  context.target = target.get();
  context.recipe = &recipe;
  context.executor = &executor;
  context.data = &data;
  context.ranges = &ranges;
  PipelineOptions options;
  options.mode = mode;
  AOQ_TRY(run_pipeline(graph, context, options));
  return graph;
}

TEST_CASE("[class 15] memory ends: loading and running a model") {
  const std::vector<std::byte> bytes = write_aoq(compile(QuantMode::static_quantization).value()).value();
  const Tensor x = sample().value();
  sweep("load and run", 1, [&]() -> Status {
    ModelOptions options = tools::model_options({.threads = 1, .deterministic = true});
    AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_bytes(bytes, nullptr, std::move(options)));
    AOQ_ASSIGN(Session session, Session::create(model));
    const TensorView views[] = {x.view()};
    return session.run(views).status();
  });
  sweep("verify", 1, [&] { return verify_aoq(bytes); });
}

TEST_CASE("[class 15] memory ends: compiling a model") {
  sweep("float", 7, [] { return compile(QuantMode::none).status(); });
  sweep("int8", 29, [] { return compile(QuantMode::static_quantization).status(); });
}

TEST_CASE("[class 15] memory ends: reading every kind of file") {
  test::OnnxBuilder onnx_model;
  onnx_model.input("x", test::kFloat, {test::DimSpec("n"), test::DimSpec(2)});
  onnx_model.initializer(test::floats("w", {2, 2}, {1, 2, 3, 4}))
      .add("MatMul", {"x", "w"}, {"h"})
      .add("Relu", {"h"}, {"y"});
  const std::vector<std::byte> onnx_bytes = onnx_model.output("y").bytes();
  sweep("onnx", 1, [&] { return onnx::import_onnx(onnx_bytes).status(); });
  sweep("text", 1, [&] { return parse_text(kModel, {}).status(); });
  std::vector<std::byte> npz;
  const std::vector<NamedTensor> arrays{{"x", sample().value()}, {"y", sample().value()}};
  auto sink_to = [](std::vector<std::byte>& out) {
    return [&out](std::span<const std::byte> part) {
      out.insert(out.end(), part.begin(), part.end());
      return Status();
    };
  };
  REQUIRE(write_npz(arrays, sink_to(npz)).ok());
  sweep("npz", 1, [&]() -> Status {
    AOQ_ASSIGN(const NpzReader reader, NpzReader::open(npz));
    return reader.read("x").status();
  });
  SafetensorsFile weights{arrays, {{"origin", "test"}}};
  std::vector<std::byte> safetensors;
  REQUIRE(write_safetensors(weights, sink_to(safetensors)).ok());
  sweep("safetensors", 1, [&] { return read_safetensors(safetensors).status(); });
  const char* json =
      R"({"a": [1, [2, {"b": null, "c": [1, 2, 3, "a string that is not short at all"]}]], "d": {"e": [[], {}]}})";
  sweep("json", 1, [&] { return parse_json(json).status(); });
  const Graph graph = model_graph().value();
  sweep("write", 1, [&] { return write_aoq(graph).status(); });
}

}  // namespace
}  // namespace aoq
