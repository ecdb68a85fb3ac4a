// Embeddings and tied weights by torchao's configurations, and layers that groups or blocks do not divide.
#include <cmath>
#include <limits>
#include <set>

#include "ir/error_id.h"
#include "ir/nn/functional.h"
#include "ir/text.h"
#include "passes/pipeline.h"
#include "passes/torchao/quantize_model.h"
#include "tests/passes/torchao_support.h"

namespace aoq::torchao {
namespace {

bool says(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string_view::npos;
}

Config config_of(const std::string& json) {
  Result<Config> config = parse_config(json);
  INFO(config.status().message());
  REQUIRE(config.ok());
  return std::move(*config);
}

constexpr std::int64_t kRows = 24, kWidth = 32;

// A table, a layer, and a head that may share the table's weight.
struct Language : nn::Module {
  explicit Language(bool ties) : is_tied(ties) {}
  const bool is_tied;
  nn::Embedding embed{at("embed"), kRows, kWidth};
  nn::Linear middle{at("middle"), kWidth, kWidth};
  nn::Linear head{at("head"), kWidth, kRows, nn::Bias::without};
  const char* type_name() const override { return "Language"; }
  nn::Proxy forward(const nn::Proxy& ids) override {
    const nn::Proxy x = middle(embed(ids));
    return is_tied ? nn::F::linear(x, embed.weight(x)) : head(x);
  }
};

Graph language(bool is_tied, DType dtype = DType::f32) {
  Language model(is_tied);
  testing::randomize(model, 3);
  REQUIRE(model.to(dtype).ok());
  Type type;
  type.dtype = DType::i64;
  type.shape = {Dim(2), Dim(5)};
  Graph graph = nn::symbolic_trace(model, {"ids", type}).value();
  PassContext context;
  REQUIRE(run_passes(graph, standard_rewrites(), context).ok());
  return graph;
}

Tensor ids() {
  const std::vector<std::int64_t> values{0, 5, 23, 7, 7, 1, 11, 12, 22, 3};
  return Tensor::from_values<std::int64_t>(DType::i64, {2, 5}, values).value();
}

std::vector<std::string> ops_of(const Graph& graph) {
  std::vector<std::string> ops;
  for (const Node* n : graph.nodes()) {
    if (!n->def().has_trait(kStructural)) ops.emplace_back(n->def().name);
  }
  return ops;
}

const Node* find(const Graph& graph, Op op) {
  for (const Node* n : graph.nodes()) {
    if (n->is(op)) return n;
  }
  return nullptr;
}

Tensor value_of(const Graph& graph, const Value* wanted) {
  Tensor found;
  Tap tap;
  tap.values = {wanted};
  tap.callback = [&](const Value&, TensorView view) -> Status {
    const auto bytes = static_cast<std::size_t>(view.element_count() * dtype_info(view.dtype).bits / 8);
    AOQ_ASSIGN(found, Tensor::copy_of(view.dtype, {view.shape.begin(), view.shape.end()}, {view.data, bytes}));
    return {};
  };
  ReferenceExecutor executor;
  REQUIRE(executor.prepare(graph).value()->run(std::vector<Tensor>{ids()}, tap).ok());
  return found;
}

const char* const kWeightOnly[] = {
    R"j({"type": "Int8WeightOnlyConfig"})j",
    R"j({"type": "Int8WeightOnlyConfig", "granularity": "PerTensor"})j",
    R"j({"type": "Int8WeightOnlyConfig", "group_size": 8})j",
    R"j({"type": "Int4WeightOnlyConfig", "group_size": 16})j",
    R"j({"type": "Int4WeightOnlyConfig", "group_size": 16, "int4_choose_qparams_algorithm": "hqq"})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int4", "mapping_type": "asymmetric"})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int2", "granularity": "PerGroup(8)"})j",
    R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int6", "granularity": "PerGroup(16)",
         "intx_choose_qparams_algorithm": "hqq_scale_only"})j",
    R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint3", "group_size": 16})j",
    R"j({"type": "UIntxWeightOnlyConfig", "dtype": "uint4", "group_size": 16, "use_hqq": true})j",
    R"j({"type": "Float8WeightOnlyConfig"})j",
    R"j({"type": "MXWeightOnlyConfig", "block_size": 16})j",
    R"j({"type": "MXWeightOnlyConfig", "weight_dtype": "f6_e3m2"})j",
    R"j({"type": "NVFP4WeightOnlyConfig"})j",
    // Of these the weight's part.
    R"j({"type": "Int8DynamicActivationInt8WeightConfig"})j",
    R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4", "weight_granularity": "PerGroup(8)"})j",
    R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerBlock(8, 16)"})j",
};

TEST_CASE("rows that are looked up are those of the dequantized table, to the bit, in every type of model") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const char* json : kWeightOnly) {
      CAPTURE(std::string(dtype_name(dtype)));
      CAPTURE(std::string(json));
      Graph graph = language(false, dtype);
      const Node* gather = find(graph, Op::gather);
      REQUIRE(gather != nullptr);
      const Tensor table = *constant_tensor(gather->input(0));
      const Config config = config_of(json);
      const Quantized q = quantize_weight(config, {"embed", table.view(), nullptr}, nullptr).value();
      const Tensor rows = dequantize(*q.weight).value();
      const Result<std::vector<LayerReport>> reports =
          quantize(graph, ConfigRules{{std::string(kEmbeddings), config}}, {});
      INFO(reports.status().message());
      REQUIRE(reports.ok());
      REQUIRE(reports->size() == 3);
      CHECK(reports->at(0).kind == LayerKind::embedding);
      CHECK(reports->at(0).module == "embed");
      CHECK(reports->at(0).kept_because.empty());
      CHECK(reports->at(1).kept_because == "no configuration names it");
      const Node* embedding = find(graph, Op::qembedding);
      REQUIRE(embedding != nullptr);
      CHECK(find(graph, Op::gather) == nullptr);
      CHECK(dtype_info(embedding->input(0)->type().dtype).bits <= 8);
      const Value* result = dtype == DType::f32 ? embedding->output() : embedding->output()->uses()[0].user->output();
      CHECK(result->type().dtype == dtype);
      const Tensor found = value_of(graph, result);
      for (std::int64_t i = 0; i < found.element_count(); ++i) {
        const std::int64_t row = ids().as<std::int64_t>()[static_cast<std::size_t>(i / kWidth)];
        CHECK(load_as_double(dtype, found.bytes().data(), i) ==
              load_as_double(dtype, rows.bytes().data(), row * kWidth + i % kWidth));
      }
    }
  }
}

TEST_CASE("a default is for linear layers alone; names, patterns and the embeddings' own default choose embeddings") {
  const Config int8 = config_of(R"j({"type": "Int8WeightOnlyConfig"})j");
  Graph plain = language(false);
  CHECK(quantize(plain, int8).value().size() == 2);
  CHECK(ops_of(plain) == std::vector<std::string>{"gather", "linear_weight_only", "linear_weight_only"});
  for (const char* name : {"embed", "embed.weight", "re:emb.*", "_embedding"}) {
    CAPTURE(std::string(name));
    Graph graph = language(false);
    const std::vector<LayerReport> reports = quantize(graph, {{name, int8}}).value();
    CHECK(reports.size() == 3);
    CHECK(ops_of(graph) == std::vector<std::string>{"qembedding", "linear", "linear"});
    CHECK(print_report(reports).find("1 of 1 embeddings are quantized") != std::string::npos);
  }
  Graph none = language(false);
  CHECK(quantize(none, {{"_embedding", int8}, {"embed", std::nullopt}}).value()[0].kept_because ==
        "its configuration is null");
  CHECK(ops_of(none)[0] == "gather");
  Graph filtered = language(false);
  ModelOptions options;
  options.filter = [](const std::string&, const Node& n) { return n.is(Op::gather); };
  CHECK(quantize(filtered, {{"_embedding", int8}, {"_default", int8}}, options).value().size() == 1);
  CHECK(ops_of(filtered) == std::vector<std::string>{"qembedding", "linear", "linear"});
  Graph wrong = language(false);
  const Status unknown = quantize(wrong, {{"embd", int8}}).status();
  CHECK(unknown.id() == ErrorId::recipe_unmatched);
  CHECK(says(unknown, "did you mean embed?"));
}

TEST_CASE("what learns from inputs, and a codebook, do not fit an embedding: an error for one that is named") {
  const std::pair<const char*, const char*> unfit[] = {
      {R"j({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j", "learns from a layer's inputs"},
      {R"j({"type": "AWQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})j", "learns from a layer's inputs"},
      {R"j({"type": "Int8StaticActivationInt8WeightConfig"})j", "learns from a layer's inputs"},
      {R"j({"type": "CodebookWeightOnlyConfig"})j", "a codebook is looked up as a whole"}};
  for (const auto& [json, text] : unfit) {
    CAPTURE(std::string(json));
    const Config config = config_of(json);
    Graph graph = language(false);
    const std::string before = print_text(graph).text;
    const Status named = quantize(graph, {{"embed", config}}).status();
    CHECK(says(named, "layer \"embed\""));
    CHECK(says(named, text));
    CHECK(print_text(graph).text == before);
    const std::vector<LayerReport> reports = quantize(graph, {{"_embedding", config}}).value();
    CHECK(reports.at(0).kept_because.find(text) != std::string::npos);
    CHECK(find(graph, Op::gather)->reason == reports.at(0).kept_because);
  }
}

// Different constants of one type.
std::size_t constants_of(const Graph& graph, DType dtype) {
  std::set<const Value*> found;
  for (const Node* n : graph.nodes()) {
    for (const Value* v : n->inputs()) {
      if (v != nullptr && v->def()->is(Op::constant) && v->type().dtype == dtype) found.insert(v);
    }
  }
  return found.size();
}

TEST_CASE("a tied weight whose codes are the same is there once; the head computes as it did") {
  const std::string int4 = R"j({"type": "Int4WeightOnlyConfig", "group_size": 16})j";
  const std::string dynamic = R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4",
                                   "weight_granularity": "PerGroup(16)"})j";
  const std::string intx =
      R"j({"type": "IntxWeightOnlyConfig", "weight_dtype": "int4", "granularity": "PerGroup(16)"})j";
  for (const auto& [head, table] : {std::pair(int4, int4), std::pair(dynamic, intx), std::pair(dynamic, dynamic)}) {
    CAPTURE(head);
    CAPTURE(table);
    Graph graph = language(true), alone = language(true);
    const std::optional<Config> of_head = config_of(head), of_table = config_of(table);
    const std::vector<LayerReport> reports = quantize(graph, {{"_default", of_head}, {"_embedding", of_table}}).value();
    REQUIRE(reports.size() == 3);
    CHECK(reports[0].shares_codes);
    CHECK(!reports[1].shares_codes);
    CHECK(reports[2].shares_codes);
    CHECK(!reports[0].float_weight_stays);
    // The table's and the middle layer's.
    CHECK(constants_of(graph, *of_head == config_of(int4) ? DType::u4 : DType::i4) == 2);
    const Node* embedding = find(graph, Op::qembedding);
    CHECK(embedding->input(0)->uses().size() == 2);
    // The same head on the same numbers, with the table left alone.
    const std::vector<LayerReport> separate = quantize(alone, {{"_default", of_head}}).value();
    CHECK(separate.back().relative_error == reports[2].relative_error);
    const Node* tied = nullptr;
    for (const Use& use : embedding->input(0)->uses()) tied = use.user->is(Op::qembedding) ? tied : use.user;
    const Node* own = alone.last()->input(0)->def();
    REQUIRE(tied != nullptr);
    for (std::size_t i : {std::size_t{1}, std::size_t{2}}) {
      const Tensor &a = *constant_tensor(tied->input(i)), &b = *constant_tensor(own->input(i));
      CHECK(std::ranges::equal(a.bytes(), b.bytes()));
    }
  }
}

TEST_CASE("of a tied weight one side may be narrow alone; the report says that the float one stays as well") {
  const std::optional<Config> int8 = config_of(R"j({"type": "Int8WeightOnlyConfig"})j");
  Graph head = language(true);
  const std::vector<LayerReport> of_head = quantize(head, {{"_default", int8}}).value();
  CHECK(of_head.back().float_weight_stays);
  CHECK(!of_head.front().float_weight_stays);
  CHECK(print_report(of_head).find("kept in float as well") != std::string::npos);
  CHECK(ops_of(head) == std::vector<std::string>{"gather", "linear_weight_only", "linear_weight_only"});
  Graph table = language(true);
  const Graph exact = language(true);
  const std::vector<LayerReport> of_table = quantize(table, {{"_embedding", int8}}).value();
  CHECK(of_table[0].float_weight_stays);
  CHECK(ops_of(table) == std::vector<std::string>{"qembedding", "linear", "linear"});
  // The head still multiplies with the float weight.
  const Node *own = table.last()->input(0)->def(), *before = exact.last()->input(0)->def();
  CHECK(std::ranges::equal(constant_tensor(own->input(1))->bytes(), constant_tensor(before->input(1))->bytes()));
}

// ---- groups and blocks that do not divide

struct Uneven : nn::Module {
  nn::Linear even{at("even"), 48, 24};
  nn::Linear odd{at("odd"), 24, 10};
  const char* type_name() const override { return "Uneven"; }
  nn::Proxy forward(const nn::Proxy& x) override { return odd(even(x)); }
};

Graph uneven() {
  Uneven model;
  testing::randomize(model, 5);
  Type type;
  type.shape = {Dim(3), Dim(48)};
  Graph graph = nn::symbolic_trace(model, {"x", type}).value();
  PassContext context;
  REQUIRE(run_passes(graph, standard_rewrites(), context).ok());
  return graph;
}

TEST_CASE("a layer that blocks do not divide stays in float and says so; one that is named is an error") {
  const std::pair<const char*, const char*> configs[] = {
      {R"j({"type": "MXWeightOnlyConfig", "block_size": 16})j", "24 inputs are no multiple of block_size 16"},
      {R"j({"type": "NVFP4WeightOnlyConfig"})j", "24 inputs are no multiple of blocks of 16"},
      {R"j({"type": "Int8WeightOnlyConfig", "group_size": 16})j", "24 inputs are no multiple of group_size 16"},
      {R"j({"type": "IntxWeightOnlyConfig", "granularity": "PerGroup(16)"})j", "24 inputs are no multiple of"},
      {R"j({"type": "UIntxWeightOnlyConfig", "group_size": 16})j", "24 inputs are no multiple of group_size 16"},
      {R"j({"type": "UIntxWeightOnlyConfig", "group_size": 16, "use_hqq": true})j", "24 inputs are no multiple of"},
      {R"j({"type": "Int8DynamicActivationIntxWeightConfig", "weight_granularity": "PerGroup(16)"})j",
       "24 inputs are no multiple of group_size 16"},
      {R"j({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerBlock(8, 8)"})j",
       "10 outputs are no multiple of blocks of 8"},
      {R"j({"type": "CodebookWeightOnlyConfig", "block_size": [1, 16]})j", "24 inputs are no multiple of blocks of 16"},
      {R"j({"type": "CodebookWeightOnlyConfig", "scale_block_size": 16})j",
       "24 inputs are no multiple of scale_block_size 16"}};
  for (const auto& [json, text] : configs) {
    CAPTURE(std::string(json));
    const std::optional<Config> config = config_of(json);
    for (const char* rule : {"_default", "re:.*"}) {
      Graph graph = uneven();
      const Result<std::vector<LayerReport>> reports = quantize(graph, {{rule, config}});
      INFO(reports.status().message());
      REQUIRE(reports.ok());
      CHECK(reports->at(0).kept_because.empty());
      CHECK(reports->at(1).type == config->type);
      CHECK(reports->at(1).kept_because.find(text) != std::string::npos);
      CHECK(print_report(*reports).find("odd  float32: " + reports->at(1).kept_because) != std::string::npos);
      CHECK(graph.last()->input(0)->def()->reason == reports->at(1).kept_because);
    }
    Graph graph = uneven();
    const std::string before = print_text(graph).text;
    const Status named = quantize(graph, {{"odd", config}}).status();
    CHECK(named.code() == Code::invalid_argument);
    CHECK(says(named, "layer \"odd\""));
    CHECK(says(named, text));
    CHECK(print_text(graph).text == before);
  }
}

}  // namespace
}  // namespace aoq::torchao
