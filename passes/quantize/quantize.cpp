#include "passes/quantize/quantize.h"

#include <algorithm>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/interpreter.h"
#include "passes/fx/backend_config.h"
#include "passes/pipeline.h"

namespace aoq {

namespace {

bool is_name_of(const Node& n, const std::string& entry) {
  const std::string& path = n.scope.path;
  return path == entry || (path.size() > entry.size() && path.starts_with(entry) && path[entry.size()] == '.') ||
         std::find(n.origins.begin(), n.origins.end(), entry) != n.origins.end();
}

bool is_type_of(const Node& n, const std::string& entry) {
  return entry == n.def().name || entry == n.scope.type || entry == n.scope.callee;
}

// One rule for each entry; an entry that means nothing here is a typing error.
Status add_rules(const Graph& graph, const std::vector<std::string>& entries, const QConfig& qconfig, Recipe& recipe) {
  for (const std::string& entry : entries) {
    bool is_type = false, is_name = false;
    for (const Node* n : graph.nodes()) {
      is_type = is_type || is_type_of(*n, entry);
      is_name = is_name || is_name_of(*n, entry);
    }
    if (!is_type && !is_name) {
      return error(Code::not_found, "the model has no module, type or op \"{}\"; `aoq inspect` lists its nodes", entry);
    }
    auto& rules = is_type ? recipe.object_type : recipe.module_name;
    rules.emplace_back(entry, qconfig);
  }
  return {};
}

}  // namespace

Status quantize(Graph& graph, const Recipe& recipe, const QuantizeOptions& options) {
  ReferenceExecutor reference;
  Ranges own;
  PassContext context;
  context.target = options.target;
  context.recipe = &recipe;
  context.executor = options.executor != nullptr ? options.executor : &reference;
  context.data = options.data;
  context.ranges = options.ranges != nullptr ? options.ranges : &own;
  PipelineOptions pipeline;
  pipeline.mode = recipe.mode;
  pipeline.last = options.last;
  return run_pipeline(graph, context, pipeline);
}

Status quantize_dynamic(Graph& graph, const std::vector<std::string>& types_or_names, DType dtype,
                        const QuantizeOptions& options) {
  if (dtype != DType::i8 && dtype != DType::f16) {
    return error(Code::invalid_argument, "quantize_dynamic: dtype is {}, expected i8 or f16", dtype_name(dtype));
  }
  AOQ_ASSIGN(QConfig qconfig,
             fx::named_qconfig(dtype == DType::f16 ? "float16_dynamic_qconfig" : "default_dynamic_qconfig"));
  // Codes of 7 bits keep sums of u8 x s8 pairs in 16 bits on every machine, as PyTorch's default engine does.
  qconfig.activation.reduce_range = dtype == DType::i8;
  Recipe recipe;
  recipe.name = "quantize_dynamic";
  recipe.mode = QuantMode::dynamic_quantization;
  recipe.bias_correction = recipe.equalization = false;
  if (types_or_names.empty()) {
    for (const char* op : {"linear", "lstm", "gru", "rnn"}) recipe.object_type.emplace_back(op, qconfig);
  } else {
    AOQ_TRY(add_rules(graph, types_or_names, qconfig, recipe));
  }
  return quantize(graph, recipe, options);
}

Status quantize_weight_only(Graph& graph, const std::vector<std::string>& types_or_names, DType dtype,
                            const QuantizeOptions& options) {
  if (dtype != DType::u8 && dtype != DType::u4 && dtype != DType::i8) {
    return error(Code::invalid_argument, "quantize_weight_only: dtype is {}, expected u8, u4 or i8", dtype_name(dtype));
  }
  AOQ_ASSIGN(QConfig qconfig, fx::named_qconfig(dtype == DType::u4 ? "float_qparams_weight_only_qconfig_4bit"
                                                                   : "float_qparams_weight_only_qconfig"));
  if (dtype == DType::i8) {
    AOQ_ASSIGN(const QConfig channels, fx::named_qconfig("per_channel_dynamic_qconfig"));
    qconfig.weight = channels.weight;
  }
  Recipe recipe;
  recipe.name = "quantize_weight_only";
  recipe.mode = QuantMode::weight_only;
  recipe.bias_correction = recipe.equalization = false;
  if (types_or_names.empty()) {
    const std::vector<const char*> ops = dtype == DType::i8 ? std::vector<const char*>{"linear", "conv"}
                                                            : std::vector<const char*>{"gather", "embedding_bag"};
    for (const char* op : ops) recipe.object_type.emplace_back(op, qconfig);
  } else {
    AOQ_TRY(add_rules(graph, types_or_names, qconfig, recipe));
  }
  return quantize(graph, recipe, options);
}

}  // namespace aoq
