// Every type of configuration on the layer of a graph: against the same layer on tensors, and on degenerate weights and
// data.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/error_id.h"
#include "passes/pipeline.h"
#include "passes/torchao/quantize_model.h"
#include "tests/passes/torchao_support.h"

namespace aoq::torchao {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Network : nn::Module {
  Network(std::int64_t in, std::int64_t out) : fc(at("fc"), in, out) {}
  nn::Linear fc;
  const char* type_name() const override { return "Network"; }
  nn::Proxy forward(const nn::Proxy& x) override { return fc(x); }
};

Tensor as_dtype(const Tensor& t, DType dtype) {
  Tensor out = Tensor::make(dtype, t.shape()).value();
  dtype_info(dtype).from_float(t.as<float>(), out.mutable_bytes().data(), 0);
  return out;
}

// A linear layer by its numbers.
struct Layer {
  Tensor weight = testing::random_tensor({16, 32}, 1);
  Tensor bias = testing::random_tensor({16}, 2);
  DType dtype = DType::f32;

  std::int64_t inputs() const { return weight.shape()[1]; }
  // x is [N, inputs] with N from 0 on.
  Graph graph() const {
    Network model(inputs(), weight.shape()[0]);
    REQUIRE(model.fc.weight.set(weight).ok());
    REQUIRE(model.fc.bias.set(bias).ok());
    REQUIRE(model.to(dtype).ok());
    Type type;
    type.dtype = dtype;
    type.shape = {Dim::symbol("N"), Dim(inputs())};
    Graph graph = nn::symbolic_trace(model, {"x", type}).value();
    graph.symbols["N"] = {0, 64};
    PassContext context;
    REQUIRE(run_passes(graph, standard_rewrites(), context).ok());
    return graph;
  }
};

// Batches of a list, one after the other, once.
class Listed : public CalibrationData {
 public:
  explicit Listed(std::vector<Tensor> batches) : batches_(std::move(batches)) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    ++calls;
    if (given_ == batches_.size()) return false;
    batch = {batches_[given_++]};
    return true;
  }

  int calls = 0;

 private:
  std::vector<Tensor> batches_;
  std::size_t given_ = 0;
};

std::vector<Tensor> batches_for(const Layer& layer, int count = 3) {
  std::vector<Tensor> batches;
  for (int i = 0; i < count; ++i) {
    // Channels of different sizes, as the algorithms expect.
    Tensor x = testing::random_tensor({8, layer.inputs()}, static_cast<std::uint64_t>(50 + i));
    const std::span<float> values = x.mutable_as<float>();
    for (std::size_t j = 0; j < values.size(); ++j) {
      if (j % static_cast<std::size_t>(layer.inputs()) % 7 == 3) values[j] *= 12.0f;
    }
    batches.push_back(as_dtype(x, layer.dtype));
  }
  return batches;
}

Config config_of(const std::string& json) {
  Result<Config> config = parse_config(json);
  INFO(config.status().message());
  REQUIRE(config.ok());
  return std::move(*config);
}

Result<Graph> quantized(const Layer& layer, const Config& config, std::vector<Tensor> batches,
                        LayerReport* report = nullptr) {
  Graph graph = layer.graph();
  Listed data(std::move(batches));
  ModelOptions options;
  options.data = &data;
  AOQ_ASSIGN(const std::vector<LayerReport> reports, quantize(graph, config, options));
  if (report != nullptr) *report = reports.at(0);
  return graph;
}

// The same on tensors: the observer sees the batches, then the weight is quantized.
Quantized on_tensors(const Layer& layer, const Config& config, const std::vector<Tensor>& batches) {
  const Graph graph = layer.graph();
  LinearSite site;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::linear)) site = {"fc", constant_tensor(n->input(1))->view(), constant_tensor(n->input(2))};
  }
  std::unique_ptr<InputObserver> observer = observe_inputs(config, site).value();
  if (observer != nullptr) {
    for (const Tensor& x : batches) REQUIRE(observer->observe(x.view()).ok());
  }
  Result<Quantized> q = quantize_weight(config, site, observer.get());
  INFO(q.status().message());
  REQUIRE(q.ok());
  return std::move(*q);
}

// The largest difference, by the largest number.
double difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  double most = 0, largest = 0;
  for (std::int64_t i = 0; i < a.element_count(); ++i) {
    const double x = load_as_double(a.dtype(), a.bytes().data(), i), y = load_as_double(b.dtype(), b.bytes().data(), i);
    REQUIRE(std::isfinite(x));
    REQUIRE(std::isfinite(y));
    most = std::max(most, std::fabs(x - y));
    largest = std::max(largest, std::fabs(x));
  }
  return largest == 0 ? most : most / largest;
}

// |a - b| / |a|
double distance(const Tensor& a, const Tensor& b) {
  double error = 0, norm = 0;
  for (std::int64_t i = 0; i < a.element_count(); ++i) {
    const double x = load_as_double(a.dtype(), a.bytes().data(), i);
    const double d = x - load_as_double(b.dtype(), b.bytes().data(), i);
    error += d * d;
    norm += x * x;
  }
  return std::sqrt(error / norm);
}

bool says(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string_view::npos;
}

std::string ops_of(const Graph& graph) {
  std::string ops;
  for (const Node* n : graph.nodes()) {
    if (!n->def().has_trait(kStructural)) ops += (ops.empty() ? "" : " ") + std::string(n->def().name);
  }
  return ops;
}

struct Kind {
  const char* config;
  const char* ops;
};

const Kind kKinds[] = {
    {R"j({"type": "Int8WeightOnlyConfig"})j", "linear_weight_only"},
    {R"j({"type": "Int4WeightOnlyConfig", "group_size": 8})j", "linear_weight_only"},
    {R"j({"type": "Int4WeightOnlyConfig", "group_size": 8, "int4_choose_qparams_algorithm": "hqq"})j",
     "linear_weight_only"},
    {R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint3", "group_size": 8})j", "linear_weight_only"},
    {R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint5", "group_size": 8, "use_hqq": true})j",
     "linear_weight_only"},
    {R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int4", "granularity": "PerGroup(8)",
          "intx_choose_qparams_algorithm": "hqq_scale_only"})j",
     "linear_weight_only"},
    {R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4", "weight_granularity": "PerGroup(8)",
          "intx_choose_qparams_algorithm": "hqq_scale_only"})j",
     "linear_dynamic"},
    {R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j", "linear_dynamic"},
    {R"j({"type": "Int8StaticActivationInt8WeightConfig"})j", "linear_dynamic"},
    {R"j({"type": "Int8StaticActivationInt8WeightConfig", "act_mapping_type": "asymmetric"})j", "linear_dynamic"},
    {R"j({"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 8}})j",
     "mul linear_weight_only"},
    {R"j({"type": "AWQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j", "mul linear_weight_only"},
    {R"j({"type": "AWQConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})j",
     "mul linear_dynamic"},
    {R"j({"type": "AWQConfig", "base_config": {"type": "UIntxWeightOnlyConfig", "group_size": 8}})j",
     "mul linear_weight_only"},
    {R"j({"type": "AWQConfig", "candidates": 5, "rows": 4,
          "base_config": {"type": "IntxWeightOnlyConfig", "weight_dtype": "int4"}})j",
     "mul linear_weight_only"},
    {R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})j",
     "mul linear_dynamic"},
    {R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8StaticActivationInt8WeightConfig"}})j",
     "mul linear_dynamic"},
    {R"j({"type": "SmoothQuantConfig", "alpha": 0.75, "base_config": {"type": "Int8StaticActivationInt8WeightConfig",
          "act_mapping_type": "asymmetric"}})j",
     "mul linear_dynamic"},
    {R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j", "mul linear_weight_only"},
    {R"j({"type": "SmoothQuantConfig", "alpha": 0,
          "base_config": {"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4"}})j",
     "mul linear_dynamic"},
    {R"j({"type": "GPTQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 8}})j",
     "linear_weight_only"},
    {R"j({"type": "GPTQConfig", "gptq_quantize_block_size": 12,
          "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 8}})j",
     "linear_weight_only"},
    {R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j", "linear_weight_only"},
    {R"j({"type": "Float8WeightOnlyConfig"})j", "linear_weight_only"},
    {R"j({"type": "Float8WeightOnlyConfig", "weight_dtype": "float8_e5m2"})j", "linear_weight_only"},
    {R"j({"type": "Float8DynamicActivationFloat8WeightConfig"})j", "fake_quantize linear_weight_only"},
    {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerRow"})j",
     "fake_quantize linear_weight_only"},
    {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerBlock(8, 16)"})j",
     "fake_quantize linear_weight_only"},
    {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "act_quant_scale": 0.02})j",
     "fake_quantize linear_weight_only"},
    {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerRow", "activation_value_lb": 0.5,
          "activation_value_ub": 3, "activation_dtype": "float8_e5m2"})j",
     "fake_quantize linear_weight_only"},
    {R"j({"type": "MXWeightOnlyConfig"})j", "linear_weight_only"},
    {R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "f6_e2m3", "scaling_mode": "rceil"})j", "linear_weight_only"},
    {R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "f6_e3m2", "scaling_mode": "ceil"})j", "linear_weight_only"},
    {R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "float8_e4m3fn", "scaling_mode": "even"})j",
     "linear_weight_only"},
    {R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "float8_e5m2", "block_size": 16})j", "linear_weight_only"},
    {R"j({"type": "NVFP4WeightOnlyConfig"})j", "linear_weight_only"},
    {R"j({"type": "NVFP4WeightOnlyConfig", "use_dynamic_per_tensor_scale": false})j", "linear_weight_only"},
    {R"j({"type": "GPTQConfig", "base_config": {"type": "NVFP4WeightOnlyConfig"}})j", "linear_weight_only"},
    {R"j({"type": "CodebookWeightOnlyConfig"})j", "dequantize_codebook linear"},
    {R"j({"type": "CodebookWeightOnlyConfig", "dtype": "uint3", "block_size": [2, 2], "scale_block_size": 16})j",
     "dequantize_codebook linear"},
};

TEST_CASE("every type of configuration is among the kinds") {
  for (const Handler* handler : all_handlers()) {
    if (handler->type == "TernaryConfig") continue;  // another test's own
    const auto is_of_type = [&](const Kind& kind) { return config_of(kind.config).type == handler->type; };
    CHECK_MESSAGE(std::ranges::any_of(kKinds, is_of_type), handler->type);
  }
}

TEST_CASE("the graph's layer computes what the tensors' layer does, for every kind") {
  const Layer layer;
  const std::vector<Tensor> batches = batches_for(layer);
  for (const Kind& kind : kKinds) {
    CAPTURE(std::string(kind.config));
    const Config config = config_of(kind.config);
    const Quantized q = on_tensors(layer, config, batches);
    REQUIRE(q.weight);
    LayerReport report;
    const Result<Graph> graph = quantized(layer, config, batches, &report);
    INFO(graph.status().message());
    REQUIRE(graph.ok());
    CHECK(ops_of(*graph) == kind.ops);
    CHECK(report.type == config.type);
    CHECK(report.kept_because.empty());
    CHECK(report.relative_error < 0.65);
    for (const Tensor& x : batches) {
      CHECK(difference(linear(*q.weight, x.view(), &layer.bias).value(), testing::run(*graph, {x})) < 1e-5);
    }
    // One row, and none.
    const Tensor row = testing::random_tensor({1, 32}, 7), none = Tensor::make(DType::f32, {0, 32}).value();
    CHECK(difference(linear(*q.weight, row.view(), &layer.bias).value(), testing::run(*graph, {row})) < 1e-5);
    CHECK(testing::run(*graph, {none}).shape() == std::vector<std::int64_t>{0, 16});
  }
}

TEST_CASE("a model in bf16 or f16 stays one, and agrees with the tensors' layer within its rounding") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    Layer layer;
    layer.dtype = dtype;
    const std::vector<Tensor> batches = batches_for(layer);
    const Tensor bias = as_dtype(layer.bias, dtype);
    const double step = dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
    for (const Kind& kind : kKinds) {
      CAPTURE(std::string(kind.config));
      const Config config = config_of(kind.config);
      const Quantized q = on_tensors(layer, config, batches);
      const Result<Graph> graph = quantized(layer, config, batches);
      INFO(graph.status().message());
      REQUIRE(graph.ok());
      const Tensor y = testing::run(*graph, {batches[0]});
      CHECK(y.dtype() == dtype);
      const Tensor expected = linear(*q.weight, batches[0].view(), &bias).value();
      // The graph computes in f32. Where inputs are quantized, the tensors' scales are rounded to the model's type, and
      // inputs near the middle of two codes fall on the other side.
      CHECK(distance(expected, y) < (q.weight->activation ? 8 * step : 2 * step));
    }
  }
}

TEST_CASE("calibration data are read batch by batch and once, and not at all where nothing is learnt") {
  const Layer layer;
  for (const Kind& kind : kKinds) {
    CAPTURE(std::string(kind.config));
    const Config config = config_of(kind.config);
    Graph graph = layer.graph();
    Listed data(batches_for(layer));
    ModelOptions options;
    options.data = &data;
    REQUIRE(quantize(graph, config, options).ok());
    CHECK(data.calls == (needs_data(config) ? 4 : 0));
  }
}

// ---- weights and data that are degenerate but finite

// The graph's result is finite and that of the tensors.
void check_same(const Layer& layer, const std::vector<Tensor>& batches) {
  for (const Kind& kind : kKinds) {
    CAPTURE(std::string(kind.config));
    const Config config = config_of(kind.config);
    const Quantized q = on_tensors(layer, config, batches);
    if (!q.weight) continue;
    const Result<Graph> graph = quantized(layer, config, batches);
    INFO(graph.status().message());
    REQUIRE(graph.ok());
    const Tensor expected = linear(*q.weight, batches[0].view(), &layer.bias).value();
    CHECK(difference(expected, testing::run(*graph, {batches[0]})) < 1e-5);
  }
}

TEST_CASE("a channel that is always zero, in the weight, in the data and in both") {
  const auto clear = [](Tensor& t, std::size_t channel) {
    for (std::size_t i = channel; i < t.as<float>().size(); i += 32) t.mutable_as<float>()[i] = 0.0f;
  };
  Layer layer;
  std::vector<Tensor> batches = batches_for(layer);
  clear(layer.weight, 5);
  for (Tensor& x : batches) clear(x, 20);
  check_same(layer, batches);
  clear(layer.weight, 20);
  check_same(layer, batches);
}

TEST_CASE("weights that are all equal, and all zero") {
  for (const float value : {0.0f, 0.375f, -2.0f}) {
    CAPTURE(value);
    Layer layer;
    std::ranges::fill(layer.weight.mutable_as<float>(), value);
    check_same(layer, batches_for(layer));
  }
}

bool is_finite(const std::vector<float>& numbers) {
  return std::ranges::all_of(numbers, [](float v) { return std::isfinite(v); });
}

TEST_CASE("weights at the edges of their type have finite scales or typed errors, for every kind") {
  struct Edge {
    const char* name;
    float first, second;  // in turns
    bool near = true;     // the dequantized weight is near the weight
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const DTypeInfo& info = dtype_info(dtype);
    const auto max = static_cast<float>(info.max);
    const float least = dtype == DType::f16 ? 0x1p-24f : dtype == DType::bf16 ? 0x1p-133f : 0x1p-149f;
    const Edge edges[] = {{"zeros", 0, 0},
                          {"negative zeros", -0.0f, -0.0f},
                          {"equal", 3, 3},
                          {"equal, below zero", -3, -3},
                          {"least", least, -least},
                          {"small", least * 9, 0},
                          {"one sign", 1, 2},
                          {"large", max / 64, -max / 64},
                          {"largest", max, max, false},
                          {"largest of both signs", max, -max, false}};
    for (const Edge& edge : edges) {
      Layer layer;
      layer.dtype = dtype;
      const std::span<float> w = layer.weight.mutable_as<float>();
      for (std::size_t i = 0; i < w.size(); ++i) w[i] = i % 3 == 0 ? edge.first : edge.second;
      const Graph graph = layer.graph();
      const Node* linear = graph.last()->input(0)->def();
      const LinearSite site{"fc", constant_tensor(linear->input(1))->view(), constant_tensor(linear->input(2))};
      for (const Kind& kind : kKinds) {
        CAPTURE(std::string(dtype_name(dtype)));
        CAPTURE(std::string(edge.name));
        CAPTURE(std::string(kind.config));
        const Config config = config_of(kind.config);
        std::unique_ptr<InputObserver> observer = observe_inputs(config, site).value();
        if (observer != nullptr) {
          for (const Tensor& x : batches_for(layer)) REQUIRE(observer->observe(x.view()).ok());
        }
        const Result<Quantized> q = quantize_weight(config, site, observer.get());
        INFO(q.status().message());
        if (!q.ok()) {
          CHECK(q.status().code() == Code::invalid_data);
          // A norm beyond f32, and a factor beyond f16.
          CHECK((!edge.near || says(q.status(), "codebook: scale") || says(q.status(), "has the factor inf")));
          continue;
        }
        REQUIRE(q->weight);
        CHECK(is_finite(q->weight->qparams.scale));
        CHECK(is_finite(q->weight->qparams.float_zero_point));
        CHECK(is_finite(q->weight->pre_scale));
        if (!edge.near) continue;
        const Tensor back = dequantize(*q->weight).value();
        const double reach =
            std::max(std::fabs(static_cast<double>(edge.first)), std::fabs(static_cast<double>(edge.second)));
        double most = 0;
        for (std::int64_t i = 0; i < back.element_count(); ++i) {
          const double undone = q->weight->pre_scale.empty() ? 1.0 : static_cast<double>(q->weight->pre_scale[i % 32]);
          const double found = load_as_double(dtype, back.bytes().data(), i) * undone;
          const double wanted = static_cast<double>(w[static_cast<std::size_t>(i)]);
          // A comparison that NaN fails.
          if (!(std::fabs(found - wanted) <= most)) most = std::fabs(found - wanted);
        }
        // Scales of NVFP4 with one level end at 448.
        const bool saturates =
            reach > 448 * 6 && std::string_view(kind.config).find("scale\": false") != std::string_view::npos;
        CHECK((saturates || most <= 0.6 * reach + 4e-5));
      }
    }
  }
}

TEST_CASE("one output, one group, one input") {
  Layer row;
  row.weight = testing::random_tensor({1, 32}, 4);
  row.bias = testing::random_tensor({1}, 5);
  const Config block = config_of(R"j({"type": "CodebookWeightOnlyConfig", "block_size": [2, 2]})j");
  LayerReport kept;
  CHECK(quantized(row, block, {}, &kept).ok());
  CHECK(kept.kept_because == "1 outputs are no multiple of blocks of 2");
  Layer thin;
  thin.weight = testing::random_tensor({4, 1}, 6);
  thin.bias = testing::random_tensor({4}, 7);
  for (const char* json :
       {R"j({"type": "Int8WeightOnlyConfig"})j", R"j({"type": "Int4WeightOnlyConfig", "group_size": 1})j",
        R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j",
        R"j({"type": "Int8StaticActivationInt8WeightConfig"})j", R"j({"type": "Float8WeightOnlyConfig"})j",
        R"j({"type": "Float8DynamicActivationFloat8WeightConfig"})j", R"j({"type": "CodebookWeightOnlyConfig"})j",
        R"j({"type": "AWQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j",
        R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})j",
        R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j",
        R"j({"type": "GPTQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 1}})j"}) {
    CAPTURE(std::string(json));
    for (const Layer* layer : {&row, &thin}) {
      const std::vector<Tensor> batches = batches_for(*layer);
      const Config config = config_of(json);
      const Quantized q = on_tensors(*layer, config, batches);
      const Result<Graph> graph = quantized(*layer, config, batches);
      INFO(graph.status().message());
      REQUIRE(graph.ok());
      const Tensor expected = linear(*q.weight, batches[0].view(), &layer->bias).value();
      CHECK(difference(expected, testing::run(*graph, {batches[0]})) < 1e-5);
    }
  }
}

// ---- errors

const char* const kLearning[] = {
    R"j({"type": "Int8StaticActivationInt8WeightConfig"})j",
    R"j({"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 8}})j",
    R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})j",
    R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8StaticActivationInt8WeightConfig"}})j",
    R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j",
};

TEST_CASE("data that are missing, empty or not finite are errors that name the layer") {
  const Layer layer;
  for (const char* json : kLearning) {
    CAPTURE(std::string(json));
    const Config config = config_of(json);
    Graph graph = layer.graph();
    const Status missing = quantize(graph, config).status();
    CHECK(missing.code() == Code::invalid_argument);
    CHECK(says(missing, "layer \"fc\""));
    CHECK(ops_of(graph) == "linear");
    const Status none = quantized(layer, config, {}).status();
    CHECK(none.code() == Code::invalid_data);
    const Status no_rows = quantized(layer, config, {Tensor::make(DType::f32, {0, 32}).value()}).status();
    INFO(no_rows.message());
    CHECK(!no_rows.ok());
    CHECK(no_rows.code() != Code::internal);
    CHECK(says(no_rows, "layer \"fc\""));
    for (const float bad : {kNan, INFINITY, -INFINITY}) {
      std::vector<Tensor> batches = batches_for(layer);
      batches[1].mutable_as<float>()[70] = bad;
      const Status status = quantized(layer, config, batches).status();
      INFO(status.message());
      CHECK(status.code() == Code::invalid_data);
      CHECK(says(status, "layer \"fc\""));
    }
  }
}

TEST_CASE("a batch without rows teaches nothing and harms nothing") {
  const Layer layer;
  for (const char* json : kLearning) {
    CAPTURE(std::string(json));
    const Config config = config_of(json);
    std::vector<Tensor> batches = batches_for(layer);
    const Graph expected = quantized(layer, config, batches).value();
    batches.insert(batches.begin() + 1, Tensor::make(DType::f32, {0, 32}).value());
    const Result<Graph> found = quantized(layer, config, batches);
    INFO(found.status().message());
    REQUIRE(found.ok());
    CHECK(difference(testing::run(expected, {batches[0]}), testing::run(*found, {batches[0]})) == 0);
  }
}

TEST_CASE("weights that are not finite are errors that name the layer") {
  for (const Kind& kind : kKinds) {
    CAPTURE(std::string(kind.config));
    for (const float bad : {kNan, INFINITY}) {
      Layer layer;
      layer.weight.mutable_as<float>()[40] = bad;
      const Status status = quantized(layer, config_of(kind.config), batches_for(layer)).status();
      INFO(status.message());
      CHECK(status.code() == Code::invalid_data);
      CHECK(says(status, "layer \"fc\""));
    }
  }
}

struct Refused {
  const char* config;
  const char* text;
};

TEST_CASE("configurations that contradict themselves or the layer say what they expect") {
  const Refused refused[] = {
      {R"j({"type": "AWQConfig", "base_config": {"type": "Float8WeightOnlyConfig"}})j", "it works for Int4WeightOnly"},
      {R"j({"type": "AWQConfig", "base_config": {"type": "AWQConfig",
            "base_config": {"type": "Int8WeightOnlyConfig"}}})j",
       "AWQConfig cannot work for AWQConfig"},
      {R"j({"type": "AWQConfig", "rows": 0, "base_config": {"type": "Int8WeightOnlyConfig"}})j", "rows is 0"},
      {R"j({"type": "AWQConfig", "candidates": 0, "base_config": {"type": "Int8WeightOnlyConfig"}})j", "candidates"},
      {R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int4WeightOnlyConfig"}})j",
       "it works for Int8WeightOnlyConfig"},
      {R"j({"type": "SmoothQuantConfig", "alpha": 1.5, "base_config": {"type": "Int8WeightOnlyConfig"}})j",
       "alpha is 1.5, expected 0 to 1"},
      {R"j({"type": "GPTQConfig", "base_config": {"type": "IntxWeightOnlyConfig"}})j", "GPTQConfig cannot work for"},
      {R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig", "granularity": "PerTensor"}})j",
       "expected PerRow"},
      {R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig", "group_size": 8}})j",
       "expected PerRow"},
      {R"j({"type": "GPTQConfig", "gptq_quantize_block_size": 0, "base_config": {"type": "Int8WeightOnlyConfig"}})j",
       "block"},
      {R"j({"type": "GPTQConfig", "percdamp": -1, "base_config": {"type": "Int8WeightOnlyConfig"}})j", "damped by -1"},
      {R"j({"type": "GPTQConfig",
            "base_config": {"type": "NVFP4WeightOnlyConfig", "use_dynamic_per_tensor_scale": false}})j",
       "no scale of the whole weight"},
      {R"j({"type": "UIntxWeightOnlyConfig", "dtype": "int4", "group_size": 8})j", "expected u1 to u8"},
      {R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "uint4"})j", "expected i1 to i8"},
      {R"j({"type": "IntxWeightOnlyConfig", "mapping_type": "asymmetric",
            "intx_choose_qparams_algorithm": "hqq_scale_only"})j",
       "hqq_scale_only is symmetric"},
      {R"j({"type": "IntxWeightOnlyConfig", "intx_choose_qparams_algorithm": "hqq"})j", "expected affine or hqq_scale"},
      {R"j({"type": "Int4WeightOnlyConfig", "group_size": 0})j", "group_size is 0"},
      {R"j({"type": "Int4WeightOnlyConfig", "group_size": 8, "int4_choose_qparams_algorithm": "awq"})j",
       "expected tinygemm or hqq"},
      {R"j({"type": "Int8DynamicActivationInt8WeightConfig", "granularity": "PerGroup(8)"})j", "PerRow or PerTensor"},
      {R"j({"type": "Int8DynamicActivationInt8WeightConfig", "act_granularity": "PerTensor"})j", "PerRow, or a static"},
      {R"j({"type": "Int8StaticActivationInt8WeightConfig", "act_quant_scale": 0})j", "act_quant_scale is 0"},
      {R"j({"type": "Int8StaticActivationInt8WeightConfig", "act_quant_scale": 1, "act_quant_zero_point": 128})j",
       "act_quant_zero_point 128"},
      {R"j({"type": "Float8WeightOnlyConfig", "weight_dtype": "int8"})j", "expected a float of 8 bits"},
      {R"j({"type": "Float8WeightOnlyConfig", "weight_dtype": "bfloat16"})j", "expected a float of 8 bits"},
      {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerGroup(8)"})j", "PerBlock(n, k)"},
      {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "act_quant_scale": 0})j", "scale"},
      {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "activation_value_lb": 2,
            "activation_value_ub": 1})j",
       "in order"},
      {R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "int8"})j", "elements of type i8, expected"},
      {R"j({"type": "MXWeightOnlyConfig", "block_size": 0})j", "0"},
      {R"j({"type": "UIntxWeightOnlyConfig", "group_size": 0})j", "0"},
      {R"j({"type": "UIntxWeightOnlyConfig", "group_size": -8, "use_hqq": true})j", "-8"},
      {R"j({"type": "CodebookWeightOnlyConfig", "block_size": [0, 1]})j", "0"},
      {R"j({"type": "CodebookWeightOnlyConfig", "scale_block_size": -4})j", "-4"},
      {R"j({"type": "MXWeightOnlyConfig", "scaling_mode": "round"})j", "expected floor, even, ceil or rceil"},
      {R"j({"type": "CodebookWeightOnlyConfig", "dtype": "int4"})j", "i4"},
      {R"j({"type": "CodebookWeightOnlyConfig", "block_size": [1]})j", "block"},
  };
  const Layer layer;
  for (const Refused& r : refused) {
    CAPTURE(std::string(r.config));
    Graph graph = layer.graph();
    Listed data(batches_for(layer));
    ModelOptions options;
    options.data = &data;
    const Status status = quantize(graph, config_of(r.config), options).status();
    INFO(status.message());
    CHECK(!status.ok());
    CHECK(status.code() != Code::internal);
    CHECK(says(status, r.text));
    CHECK(says(status, "layer \"fc\""));
    CHECK(ops_of(graph) == "linear");
  }
}

}  // namespace
}  // namespace aoq::torchao
