#include "tools/quantize_flags.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ir/error_id.h"
#include "passes/fx/backend_config.h"
#include "passes/torchao/quantize_model.h"
#include "tools/output_file.h"
#include "tools/suggest.h"

namespace aoq::tools {

namespace {

constexpr std::pair<const char*, QuantMode> kModes[] = {{"static", QuantMode::static_quantization},
                                                        {"dynamic", QuantMode::dynamic_quantization},
                                                        {"weight-only", QuantMode::weight_only},
                                                        {"none", QuantMode::none}};

// An entry that matches nothing is a typing error, and would silently quantize what was to stay in float.
Status check_keep_float(const Graph& graph, const std::vector<std::string>& entries) {
  std::vector<std::string> known;
  for (const Node* n : graph.nodes()) {
    if (n->def().has_trait(kStructural)) continue;
    known.emplace_back(n->def().name);
    known.insert(known.end(), n->origins.begin(), n->origins.end());
    if (!n->scope.type.empty()) known.push_back(n->scope.type);
    for (std::size_t end = n->scope.path.find('.');; end = n->scope.path.find('.', end + 1)) {
      if (!n->scope.path.empty()) known.push_back(n->scope.path.substr(0, end));
      if (end == std::string::npos) break;
    }
  }
  for (const std::string& entry : entries) {
    bool matches = std::find(known.begin(), known.end(), entry) != known.end() || op_from_name(entry).has_value();
    if (matches) continue;
    return error(ErrorId::keep_float_unmatched,
                 "--keep-float: the model has no node, module or type \"{}\"{}; `aoq inspect` lists "
                 "its nodes",
                 entry, did_you_mean(entry, known));
  }
  return {};
}

constexpr const char* kFxNames = "fx-fbgemm, fx-x86, fx-qnnpack, fx-onednn";

// Recipes of PyTorch's backends: "fx-x86", "fx-qnnpack", ...
bool is_fx_name(const std::string& name) {
  return name.starts_with("fx-") && !name.ends_with(".json");
}

bool is_recipe_name(const std::string& name) {
  return is_fx_name(name) || torchao::has_named_rules(name);
}

// What was meant by a recipe that is no file.
std::string context_of_recipe(const std::string& name) {
  if (name.find_first_of("./\\") != std::string::npos) return "--recipe";
  return "no built-in recipe has this name" + did_you_mean(name, torchao::rule_names());
}

// Configurations and nothing else.
Recipe recipe_of_configs(const std::string& name, torchao::ConfigRules rules) {
  Recipe recipe;
  recipe.name = name;
  recipe.mode = QuantMode::weight_only;
  recipe.bias_correction = recipe.equalization = false;
  recipe.configs = std::move(rules);
  return recipe;
}

Result<Recipe> named_recipe(const std::string& name) {
  if (is_fx_name(name)) return fx::fx_recipe(name.substr(3));
  AOQ_ASSIGN(torchao::ConfigRules rules, torchao::named_rules(name));
  return recipe_of_configs(name, std::move(rules));
}

// What --embeddings names, for all embeddings.
Status add_embeddings(const QuantizeFlags& flags, Recipe& recipe) {
  const std::string& name = flags.embeddings;
  if (is_fx_name(flags.recipe)) {
    return error(Code::invalid_argument, "--embeddings {} has no effect with --recipe {}", name, flags.recipe);
  }
  Result<torchao::ConfigRules> rules = torchao::named_rules(name);
  if (!rules.ok()) {
    return std::move(rules).status().with_context("--embeddings" + did_you_mean(name, torchao::rule_names()));
  }
  for (auto& [default_name, config] : *rules) {
    if (torchao::needs_data(*config)) {
      return error(Code::invalid_argument,
                   "--embeddings {}: {} learns from a layer's inputs, which an embedding has not", name, config->type);
    }
    recipe.configs.emplace_back(torchao::kEmbeddings, std::move(config));
  }
  return {};
}

// Configurations that learn from data must get some.
Status check_data(const Recipe& recipe, const QuantizeFlags& flags) {
  for (const auto& [name, config] : recipe.configs) {
    if (!config || !torchao::needs_data(*config) || !flags.calibrate.empty() || flags.brings_data) continue;
    return error(ErrorId::ranges_needed, "recipe \"{}\": {} (\"{}\") learns from data: give --calibrate DATA",
                 recipe.name, config->type, name);
  }
  return {};
}

Result<QuantMode> wanted_mode(const QuantizeFlags& flags, QuantMode of_recipe) {
  bool has_data = !flags.calibrate.empty() || !flags.ranges.empty() || flags.brings_data;
  if (flags.quantize.empty()) {
    if (!flags.recipe.empty() || (!flags.embeddings.empty() && !has_data)) return of_recipe;
    return has_data ? QuantMode::static_quantization : QuantMode::none;
  }
  for (const auto& [name, mode] : kModes) {
    if (flags.quantize == name) return mode;
  }
  return error(Code::internal, "--quantize {}", flags.quantize);
}

// Those that learn nothing from data.
std::vector<std::string> names_for_embeddings() {
  std::vector<std::string> names;
  for (const std::string& name : torchao::rule_names()) {
    const Result<torchao::ConfigRules> rules = torchao::named_rules(name);
    const auto learns = [](const auto& rule) { return torchao::needs_data(*rule.second); };
    if (rules.ok() && std::ranges::none_of(*rules, learns)) names.push_back(name);
  }
  return names;
}

}  // namespace

void QuantizeFlags::declare(Flags& flags) {
  flags.choice("--quantize", quantize, {"static", "dynamic", "weight-only", "none"},
               "How (default: static with --calibrate or --ranges, else none)");
  flags.text("--calibrate", "DATA", calibrate, "Calibration data: .npz or .npy, streamed");
  flags.list("--ranges", "FILE.json", ranges, "Ranges from `aoq calibrate` in place of data; repeatable");
  static const std::string recipe_doc = fmt::format(
      "What to quantize, and how: a file, {}, or a configuration for linear layers ({}) (default: the built-in recipe)",
      kFxNames, fmt::join(torchao::rule_names(), ", "));
  flags.text("--recipe", "FILE.json", recipe, recipe_doc.c_str());
  static const std::string embeddings_doc =
      fmt::format("A configuration for embeddings, whose rows stay packed ({}) (default: they stay in float)",
                  fmt::join(names_for_embeddings(), ", "));
  flags.text("--embeddings", "NAME", embeddings, embeddings_doc.c_str());
  flags.list("--keep-float", "NAME_OR_TYPE", keep_float, "A node, module or type to leave in float; repeatable");
  flags.integer("--samples", "N", data.samples, 1, "Use the first N calibration samples only");
  flags.integer("--batch", "B", data.batch, 1, "Calibration samples that are run at once");
  flags.list("--constant", "NAME=FILE.npy", data.constants, "The value of an input without a sample axis; repeatable");
  tools::declare(flags, run);
}

Result<Recipe> read_recipe(const QuantizeFlags& flags) {
  Recipe recipe = flags.quantize == "dynamic"       ? default_dynamic_recipe()
                  : flags.quantize == "weight-only" ? default_weight_only_recipe()
                                                    : default_recipe();
  if (is_recipe_name(flags.recipe)) {
    AOQ_ASSIGN(recipe, named_recipe(flags.recipe));
  } else if (!flags.recipe.empty()) {
    Result<std::string> text = read_text_file(flags.recipe);
    if (!text.ok()) return std::move(text).status().with_context(context_of_recipe(flags.recipe));
    Result<Recipe> parsed = parse_recipe(*text);
    if (!parsed.ok()) return error(Code::invalid_data, "{}: {}", flags.recipe, parsed.status().message());
    recipe = std::move(*parsed);
  }
  const bool has_data_for_mode = !flags.calibrate.empty() || !flags.ranges.empty() || flags.brings_data;
  if (flags.recipe.empty() && flags.quantize.empty() && !flags.embeddings.empty() && !has_data_for_mode) {
    recipe = recipe_of_configs(flags.embeddings, {});
  }
  if (!flags.embeddings.empty()) AOQ_TRY(add_embeddings(flags, recipe));
  AOQ_ASSIGN(recipe.mode, wanted_mode(flags, recipe.mode));
  if (is_fx_name(flags.recipe) && recipe.mode != QuantMode::static_quantization) {
    return error(Code::invalid_argument,
                 "--recipe {} is static: leave out --quantize {}, or write a recipe with dynamic qconfigs (docs/fx.md)",
                 flags.recipe, flags.quantize);
  }
  AOQ_TRY(check_data(recipe, flags));
  recipe.keep_float.insert(recipe.keep_float.end(), flags.keep_float.begin(), flags.keep_float.end());
  bool has_data = !flags.calibrate.empty() || !flags.ranges.empty();
  if (!flags.calibrate.empty() && !flags.ranges.empty()) {
    return error(Code::invalid_argument,
                 "--calibrate and --ranges exclude each other; `aoq calibrate --merge` joins ranges");
  }
  if (recipe.mode == QuantMode::static_quantization && !has_data && !flags.brings_data) {
    return error(ErrorId::ranges_needed, "static quantization needs --calibrate DATA or --ranges FILE.json");
  }
  if (recipe.mode == QuantMode::dynamic_quantization && flags.recipe.empty() && has_data) {
    return error(
        Code::invalid_argument,
        "--calibrate and --ranges have no effect with --quantize dynamic: scales are chosen while the model runs");
  }
  if (recipe.mode == QuantMode::weight_only && flags.recipe.empty() && has_data) {
    return error(Code::invalid_argument,
                 "--calibrate and --ranges have no effect with --quantize weight-only: activations stay in float");
  }
  if (flags.quantize == "none" && !flags.recipe.empty()) {
    return error(Code::invalid_argument,
                 "--recipe {} has no effect with --quantize none: leave out --quantize to follow the recipe",
                 flags.recipe);
  }
  if (recipe.mode == QuantMode::none && (has_data || !flags.keep_float.empty() || !flags.embeddings.empty())) {
    return error(Code::invalid_argument,
                 "--calibrate, --ranges, --embeddings and --keep-float have no effect without quantization");
  }
  return recipe;
}

Result<Ranges> read_ranges(const std::vector<std::string>& paths) {
  Ranges all;
  bool is_first = true;
  for (const std::string& path : paths) {
    AOQ_ASSIGN(std::string text, read_text_file(path));
    Result<Ranges> one = Ranges::from_json(text);
    if (!one.ok()) return error(Code::invalid_data, "{}: {}", path, one.status().message());
    if (is_first) {
      all = std::move(*one);
      is_first = false;
      continue;
    }
    Status merged = all.merge(*one);
    if (!merged.ok()) return std::move(merged).with_context("merge " + path);
  }
  return all;
}

Result<Compiled> compile_with_flags(Graph graph, const QuantizeFlags& flags, CompileOptions options,
                                    const Console& console) {
  AOQ_ASSIGN(options.recipe, read_recipe(flags));
  AOQ_TRY(check_keep_float(graph, flags.keep_float));
  AOQ_ASSIGN(options.ranges, read_ranges(flags.ranges));
  options.run.threads = static_cast<int>(flags.run.threads);
  options.run.deterministic = flags.run.deterministic;
  std::optional<DataSet> data;
  std::optional<CalibrationStream> stream;
  if (!flags.calibrate.empty()) {
    DataOptions wanted = flags.data;
    wanted.input = flags.calibrate;
    AOQ_ASSIGN(data, DataSet::open(input_ports(graph), wanted));
    options.data = &stream.emplace(*data, console);
  }
  Result<Compiled> compiled = compile_graph(std::move(graph), std::move(options));
  if (!compiled.ok() && stream && compiled.status().code() == Code::invalid_data) {
    return std::move(compiled).status().with_context(fmt::format("{}, {}", flags.calibrate, stream->position()));
  }
  // The built-in recipes name ops that a model need not have.
  if (compiled.ok() && flags.recipe.empty()) compiled->warnings.clear();
  return compiled;
}

}  // namespace aoq::tools
