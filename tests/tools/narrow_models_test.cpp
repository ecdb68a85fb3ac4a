// Linear layers of every kind of narrow weight through compile, a file and the runtime.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "formats/aoq/aoq.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "runtime/graph_executor.h"
#include "runtime/session.h"
#include "tests/passes/torchao_support.h"
#include "tools/compiler.h"
#include "tools/op_list.h"

namespace aoq::tools {
namespace {

constexpr const char* kConfigs[] = {
    R"j({"type": "Int8WeightOnlyConfig"})j",
    R"j({"type": "Int8WeightOnlyConfig", "granularity": "PerTensor"})j",
    R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j",
    R"j({"type": "Int4WeightOnlyConfig", "group_size": 32, "int4_choose_qparams_algorithm": "hqq"})j",
    R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint3", "group_size": 32})j",
    R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint6", "group_size": 48, "use_hqq": true})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int1", "granularity": "PerGroup(32)"})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int2", "granularity": "PerGroup(32)"})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int5", "mapping_type": "asymmetric"})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int7", "intx_choose_qparams_algorithm": "hqq_scale_only"})j",
    R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j",
    R"j({"type": "Int8DynamicActivationInt8WeightConfig", "act_mapping_type": "asymmetric"})j",
    R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4"})j",
    R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int3", "weight_granularity": "PerAxis(0)"})j",
    R"j({"type": "Int8StaticActivationInt8WeightConfig"})j",
    R"j({"type": "Int8StaticActivationInt8WeightConfig", "act_mapping_type": "asymmetric"})j",
    R"j({"type": "Float8WeightOnlyConfig"})j",
    R"j({"type": "Float8WeightOnlyConfig", "weight_dtype": "float8_e5m2"})j",
    R"j({"type": "Float8DynamicActivationFloat8WeightConfig"})j",
    R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerRow"})j",
    R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "act_quant_scale": 0.01})j",
    R"j({"type": "MXWeightOnlyConfig"})j",
    R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "f6_e2m3", "scaling_mode": "rceil"})j",
    R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "f6_e3m2", "scaling_mode": "ceil"})j",
    R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "float8_e4m3fn", "scaling_mode": "even"})j",
    R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "float8_e5m2"})j",
    R"j({"type": "NVFP4WeightOnlyConfig"})j",
    R"j({"type": "CodebookWeightOnlyConfig"})j",
    R"j({"type": "CodebookWeightOnlyConfig", "dtype": "uint3", "block_size": [1, 2], "scale_block_size": 32})j",
    R"j({"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}})j",
    R"j({"type": "AWQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j",
    R"j({"type": "SmoothQuantConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})j",
    R"j({"type": "SmoothQuantConfig", "alpha": 0.8, "base_config": {"type": "Int8StaticActivationInt8WeightConfig"}})j",
    R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j",
    R"j({"type": "GPTQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}})j",
};

struct Network : nn::Module {
  nn::Linear first{at("first"), 96, 96};
  nn::ReLU relu{at("relu")};
  nn::Linear second{at("second"), 96, 64, nn::Bias::without};
  const char* type_name() const override { return "Network"; }
  nn::Proxy forward(const nn::Proxy& x) override { return second(relu(first(x))); }
};

constexpr std::int64_t kWeights = 96 * 96 + 96 * 64;

Graph network(DType dtype = DType::f32) {
  Network model;
  testing::randomize(model, 5);
  REQUIRE(model.to(dtype).ok());
  Type type;
  type.dtype = dtype;
  type.shape = {Dim(7), Dim(96)};
  return nn::symbolic_trace(model, {"x", type}).value();
}

Result<Compiled> compile(Graph graph, const std::string& config, const std::string& cpu_class) {
  CompileOptions options;
  AOQ_ASSIGN(torchao::Config parsed, torchao::parse_config(config));
  options.recipe = Recipe{};
  options.recipe.mode = QuantMode::weight_only;
  options.recipe.bias_correction = options.recipe.equalization = false;
  options.recipe.configs = {{"_default", std::move(parsed)}};
  options.cpu_class = cpu_class;
  options.run.threads = 1;
  testing::Batches data({7, 96}, 3);
  options.data = &data;
  return compile_graph(std::move(graph), std::move(options));
}

// What a model takes once it has run.
struct Memory {
  std::uint64_t weights = 0, packed = 0;
};

Tensor run_file(std::span<const std::byte> file, const Tensor& x, Memory* memory = nullptr) {
  const std::shared_ptr<const Model> model = Model::from_bytes(file, nullptr, model_options({.threads = 1})).value();
  Session session = Session::create(model).value();
  const TensorView views[] = {x.view()};
  const TensorView y = session.run(views).value()[0];
  if (memory != nullptr) *memory = {model->weights_bytes(), model->packed_bytes()};
  return Tensor::copy_of(y.dtype, {y.shape.begin(), y.shape.end()},
                         {y.data, static_cast<std::size_t>(y.element_count()) * (y.dtype == DType::f32 ? 4 : 2)})
      .value();
}

double relative_error(const Tensor& exact, const Tensor& found) {
  double error = 0, norm = 0;
  for (std::int64_t i = 0; i < exact.element_count(); ++i) {
    const double e = load_as_double(exact.dtype(), exact.bytes().data(), i);
    const double d = e - load_as_double(found.dtype(), found.bytes().data(), i);
    error += d * d;
    norm += e * e;
  }
  return std::sqrt(error / norm);
}

bool is_same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && std::ranges::equal(a.bytes(), b.bytes());
}

std::vector<Tensor> constants_of(const Graph& graph) {
  std::vector<Tensor> out;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::constant) || n->is(Op::packed_constant)) out.push_back(n->attributes().tensor("value"));
  }
  return out;
}

TEST_CASE("every kind of narrow layer survives a file bit for bit, plain and packed") {
  const Tensor x = testing::random_tensor({7, 96}, 77);
  const Tensor exact = testing::run(network(), {x});
  for (const char* config : kConfigs) {
    CAPTURE(std::string(config));
    Result<Compiled> portable = compile(network(), config, "portable"), native = compile(network(), config, "native");
    INFO(portable.status().message());
    REQUIRE(portable.ok());
    REQUIRE(native.ok());
    const Tensor before = testing::run(portable->graph, {x});
    for (const Graph* graph : {&portable->graph, &native->graph}) {
      const std::vector<std::byte> file = write_aoq(*graph).value();
      const Graph back = read_aoq(file, nullptr).value();
      const std::vector<Tensor> written = constants_of(*graph), read = constants_of(back);
      REQUIRE(written.size() == read.size());
      for (std::size_t i = 0; i < read.size(); ++i) CHECK(is_same(written[i], read[i]));
      CHECK(write_aoq(back).value() == file);
      // The kernels give what the reference gives; packed and repacked alike.
      CHECK(is_same(before, run_file(file, x)));
    }
    const bool is_coarse = std::string(config).find("int1\"") != std::string::npos ||
                           std::string(config).find("int2\"") != std::string::npos;
    CHECK(relative_error(exact, before) < (is_coarse ? 1.01 : 0.6));
    REQUIRE(portable->layers.size() == 2);
    CHECK(portable->layers[0].module == "first");
    CHECK(portable->provenance.json.find("bits_per_weight") != std::string::npos);
  }
}

TEST_CASE("files and opened models have narrow weights only") {
  struct Case {
    const char* config;
    DType dtype;
    double bits;  // codes, scales and zero points of a weight
  };
  const Case cases[] = {
      {R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int4", "granularity": "PerGroup(32)"})j", DType::f32, 5},
      {R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j", DType::f32, 6},
      {R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j", DType::bf16, 5},
      {R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4"})j", DType::f16, 4.5},
      {R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint3", "group_size": 32})j", DType::f32, 4.25},
      {R"j({"type": "Int8WeightOnlyConfig"})j", DType::f32, 8.34},
      {R"j({"type": "Float8WeightOnlyConfig"})j", DType::f32, 8.34},
      {R"j({"type": "MXWeightOnlyConfig"})j", DType::f32, 4.25},
      {R"j({"type": "NVFP4WeightOnlyConfig"})j", DType::f32, 6},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.config));
    Tensor x = Tensor::make(c.dtype, {7, 96}).value();
    dtype_info(c.dtype).from_float(testing::random_tensor({7, 96}, 1).as<float>(), x.mutable_bytes().data(), 0);
    // The bias, room for alignment, and the graph itself.
    const auto expected = static_cast<std::uint64_t>(static_cast<double>(kWeights) * c.bits / 8) + 96 * 4 + 640;
    for (const char* cpu_class : {"portable", "native"}) {
      CAPTURE(std::string(cpu_class));
      const Compiled compiled = compile(network(c.dtype), c.config, cpu_class).value();
      for (const torchao::LayerReport& layer : compiled.layers) {
        CHECK(layer.bits_per_weight == doctest::Approx(c.bits).epsilon(0.01));
      }
      const std::vector<std::byte> file = write_aoq(compiled.graph).value();
      CHECK(file.size() < expected + 6000);
      Memory memory;
      run_file(file, x, &memory);
      // Some layouts have a byte for every code.
      CHECK(memory.weights < expected + kWeights / 2);
      // A copy in the layout of this machine, or none: far from four bytes for each weight.
      CHECK(memory.packed <= static_cast<std::uint64_t>(kWeights * 3 / 2));
      if (std::string(cpu_class) == "native") CHECK(memory.packed == 0);
    }
  }
}

// Where the system has mapped the file.
bool is_mapped_from(const std::string& path, const std::byte* address) {
  std::ifstream maps("/proc/self/maps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> begin >> dash >> end;
    if (wanted >= begin && wanted < end) return line.ends_with(path);
  }
  return false;
}

TEST_CASE("weights that a file has packed for this machine are used where the file is mapped") {
  const std::string path = std::filesystem::temp_directory_path() / ("aoq_in_place_" + std::to_string(getpid()));
  for (const char* config :
       {R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j", R"j({"type": "Int8WeightOnlyConfig"})j",
        R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4"})j"}) {
    CAPTURE(std::string(config));
    const std::vector<std::byte> file = write_aoq(compile(network(), config, "native").value().graph).value();
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
    const std::shared_ptr<const Model> model = Model::open(path, model_options({.threads = 1})).value();
    Session session = Session::create(model).value();
    const Tensor x = testing::random_tensor({7, 96}, 1);
    REQUIRE(session.run(std::vector<TensorView>{x.view()}).ok());
    int constants = 0;
    for (const Node* n : model->graph().nodes()) {
      if (!n->is(Op::constant) && !n->is(Op::packed_constant)) continue;
      // The pages that hold the graph are a copy: what begins in the last of them ends behind it, if it is a page long.
      const std::span<const std::byte> bytes = n->attributes().tensor("value").bytes();
      if (bytes.size() < 4096) continue;
      ++constants;
      CAPTURE(n->label());
      CHECK(is_mapped_from(path, &bytes.back()));
    }
    CHECK(constants >= 1);
    CHECK(model->packed_bytes() == 0);
    CHECK(model->repacked().empty());
  }
  std::filesystem::remove(path);
}

TEST_CASE("models in bf16 and f16 take narrow layers, with scales of their own type") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const char* config : {R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j",
                               R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j"}) {
      CAPTURE(std::string(config));
      Graph graph = network(dtype);
      Tensor x = Tensor::make(dtype, {7, 96}).value();
      const Tensor wide = testing::random_tensor({7, 96}, 3);
      dtype_info(dtype).from_float(wide.as<float>(), x.mutable_bytes().data(), 0);
      const Tensor exact = testing::run(graph, {x});
      const Result<Compiled> compiled = compile(std::move(graph), config, "portable");
      INFO(compiled.status().message());
      REQUIRE(compiled.ok());
      CHECK(relative_error(exact, run_file(write_aoq(compiled->graph).value(), x)) < 0.15);
      for (const Node* n : compiled->graph.nodes()) {
        if (n->is(Op::linear_weight_only) || n->is(Op::linear_dynamic)) CHECK(n->input(2)->type().dtype == dtype);
      }
    }
  }
}

TEST_CASE("lists name the precision of the codes") {
  const auto precision = [](const char* config) {
    const Compiled compiled = compile(network(), config, "native").value();
    for (const OpEntry& e : list_ops(compiled.graph, {})) {
      if (e.op.starts_with("linear")) return e.requested + " " + e.runs;
    }
    return std::string();
  };
  CHECK(precision(R"j({"type": "Int4WeightOnlyConfig", "group_size": 32})j") == "int4 int4");
  CHECK(precision(R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j") == "int8 int8");
  CHECK(precision(R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int3"})j") == "int3 int3");
  CHECK(precision(R"j({"type": "Float8WeightOnlyConfig"})j") == "f8_e4m3fn f8_e4m3fn");
  CHECK(precision(R"j({"type": "MXWeightOnlyConfig"})j") == "f4_e2m1 f4_e2m1");
}

TEST_CASE("a layer norm that writes codes says that its arithmetic is float") {
  const Result<Graph> graph = parse_text(R"(aoqir 1 lowered
%0 = input() {dtype=f32, name="x", shape=[2, 8]}
%1 = qlayer_norm(%0) {out_scale=0.05, out_zero_point=128} origins("norm") requested("int8")
%2 = dequantize(%1) {scale=0.05, zero_point=128}
output(%2) {names=["y"]}
)",
                                         {});
  INFO(graph.status().message());
  REQUIRE(graph.ok());
  const std::vector<OpEntry> ops = list_ops(*graph, {});
  REQUIRE(ops.size() == 2);
  CHECK(ops[0].runs == "float32");
  CHECK(ops[0].reason == "writes codes; its arithmetic is float");
}

TEST_CASE("an algorithm that cannot work for a configuration says for which it can") {
  const Status gptq =
      compile(network(), R"j({"type": "GPTQConfig", "base_config": {"type": "Float8WeightOnlyConfig"}})j", "portable")
          .status();
  CHECK(gptq.message().find("Int4WeightOnlyConfig, Int8WeightOnlyConfig") != std::string_view::npos);
  CHECK(gptq.message().find("layer \"first\"") != std::string_view::npos);
}

}  // namespace
}  // namespace aoq::tools
