#include "passes/pipeline.h"

#include <algorithm>
#include <array>

#include "ir/nn/tracer.h"
#include "passes/fx/workflow.h"
#include "passes/quantize/check_recipe.h"
#include "passes/torchao/quantize_model.h"

namespace aoq {

namespace {

Status run_named(Graph& graph, std::span<const std::string> names, PassContext& context,
                 const PipelineOptions& options) {
  return run_passes(graph, names, context, options.run).status();
}

Status run_stage(Graph& graph, const char* name, PassContext& context, const PipelineOptions& options) {
  std::array<std::string, 1> names{name};
  return run_named(graph, names, context, options);
}

bool is_before(const Graph& graph, Stage stage) {
  return static_cast<int>(graph.stage) < static_cast<int>(stage);
}

// Linear layers by torchao's configurations. What follows sees the data from their beginning.
Status quantize_layers(Graph& graph, PassContext& context) {
  torchao::ModelOptions options;
  options.executor = context.executor;
  options.data = context.data;
  const Recipe& recipe = *context.recipe;
  options.filter = [&](const std::string&, const Node& n) { return !is_kept_float(recipe, n); };
  AOQ_ASSIGN(std::vector<torchao::LayerReport> layers, torchao::quantize(graph, recipe.configs, options));
  if (context.layers != nullptr) *context.layers = std::move(layers);
  const auto took_data = [](const auto& rule) { return rule.second && torchao::needs_data(*rule.second); };
  if (context.data != nullptr && std::ranges::any_of(recipe.configs, took_data) && !context.data->rewind()) {
    context.data = nullptr;
  }
  return {};
}

bool has_observers(const Graph& graph) {
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::observe)) return true;
  }
  return false;
}

// traced to quantized.
Status quantize(Graph& graph, PassContext& context, const PipelineOptions& options) {
  if (is_before(graph, Stage::prepared)) AOQ_TRY(run_stage(graph, "prepare", context, options));
  if (options.last == Stage::prepared || !is_before(graph, Stage::quantized)) return {};
  const bool learns_ranges = context.recipe == nullptr || context.recipe->configs.empty() || has_observers(graph);
  if (context.data != nullptr && learns_ranges) AOQ_TRY(run_stage(graph, "calibrate", context, options));
  return run_stage(graph, "convert", context, options);
}

}  // namespace

Status run_pipeline(Graph& graph, PassContext& context, const PipelineOptions& options) {
  if (graph.stage == Stage::lowered) return {};
  if (graph.stage == Stage::traced) {
    if (options.mode != QuantMode::none && context.recipe != nullptr) {
      AOQ_TRY(check_names(graph, *context.recipe, context.warnings));
      context.has_checked_names = true;
    }
    // The FX workflow fuses by its backend configuration; what came from the module API is as FX would see it.
    const bool is_fx = options.mode != QuantMode::none && context.recipe != nullptr && !context.recipe->backend.empty();
    if (!is_fx || !graph.metadata.contains("symbolic_trace")) {
      AOQ_TRY(run_named(graph, standard_rewrites(), context, options));
    }
    if (is_fx) AOQ_TRY(fx::fuse_fx(graph, *context.recipe));
  }
  if (options.last == Stage::traced) return {};
  if (graph.stage == Stage::traced && options.before_quantizing) AOQ_TRY(options.before_quantizing(graph));
  const bool has_configs =
      options.mode != QuantMode::none && context.recipe != nullptr && !context.recipe->configs.empty();
  if (has_configs && graph.stage == Stage::traced) AOQ_TRY(quantize_layers(graph, context));
  if (options.mode != QuantMode::none) AOQ_TRY(quantize(graph, context, options));
  if (options.last != Stage::lowered) return {};
  graph.metadata.erase(nn::kModuleClasses);
  // Where stubs are, nothing fuses across them; what is fused now is one op.
  const std::array<std::string, 2> fuse{"fuse-activation", "dce"};
  if (options.mode != QuantMode::none) AOQ_TRY(run_named(graph, fuse, context, options));
  AOQ_TRY(run_stage(graph, "lower", context, options));
  return run_named(graph, lowered_rewrites(), context, options);
}

}  // namespace aoq
