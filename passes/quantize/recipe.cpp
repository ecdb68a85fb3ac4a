#include "passes/quantize/recipe.h"

#include <algorithm>
#include <regex>

#include <fmt/format.h>

#include "formats/json/json.h"
#include "ir/error_id.h"
#include "passes/quantize/check_recipe.h"

namespace aoq {

bool CustomConfig::is_empty() const {
  return non_traceable_module_name.empty() && non_traceable_module_class.empty() && custom_modules.empty() &&
         quantized_inputs.empty() && quantized_outputs.empty() && preserved_attributes.empty() &&
         standalone_module_name.empty();
}

namespace {

bool is_name_or_ancestor(std::string_view pattern, std::string_view name) {
  return name == pattern ||
         (name.size() > pattern.size() && name.substr(0, pattern.size()) == pattern && name[pattern.size()] == '.');
}

QConfigMatch found(const QConfigRule& rule, std::string_view kind) {
  return {rule.second ? &*rule.second : nullptr, fmt::format("{} \"{}\"", kind, rule.first)};
}

// The longest rule that names the scope or one of its ancestors.
const QConfigRule* nearest(const std::vector<QConfigRule>& rules, std::string_view scope) {
  const QConfigRule* best = nullptr;
  for (const QConfigRule& rule : rules) {
    if (is_name_or_ancestor(rule.first, scope) && (!best || rule.first.size() > best->first.size())) best = &rule;
  }
  return best;
}

bool is_kept_float(const std::string& entry, const Node& n) {
  if (entry == n.def().name || entry == n.scope.type || is_name_or_ancestor(entry, n.scope.path)) return true;
  return std::find(n.origins.begin(), n.origins.end(), entry) != n.origins.end();
}

}  // namespace

QConfigMatch match_qconfig(const Recipe& recipe, const Node& node) {
  for (const std::string& entry : recipe.keep_float) {
    if (is_kept_float(entry, node)) return {nullptr, fmt::format("kept in float by \"{}\"", entry)};
  }
  if (const QConfigRule* rule = nearest(recipe.module_name, node.scope.path)) return found(*rule, "module_name");
  for (const QConfigRule& rule : recipe.module_name_regex) {
    // The pattern was compiled once when the recipe was read, so it is valid.
    if (std::regex_search(node.scope.path, std::regex(rule.first), std::regex_constants::match_continuous)) {
      return found(rule, "module_name_regex");
    }
  }
  for (const QConfigRule& rule : recipe.object_type) {
    const std::string& own = node.scope.callee.empty() ? node.scope.type : node.scope.callee;
    if (rule.first == node.def().name || rule.first == own) return found(rule, "object_type");
  }
  return {recipe.global ? &*recipe.global : nullptr, "global"};
}

std::string print_observer_spec(const ObserverSpec& spec) {
  return dump_json(spec_to_json(spec));
}

Result<ObserverSpec> parse_observer_spec(std::string_view text) {
  AOQ_ASSIGN(Json json, parse_json(text));
  return spec_from_json(json);
}

Recipe default_recipe() {
  QConfig config;
  config.activation.kind = "histogram";
  config.activation.dtype = DType::u8;
  config.activation.qscheme = QScheme::per_tensor_affine;
  config.weight.kind = "per_channel_min_max";
  config.weight.dtype = DType::i8;
  config.weight.qscheme = QScheme::per_channel_symmetric;
  config.weight.quant_min = -127;
  config.weight.quant_max = 127;
  Recipe recipe;
  recipe.global = config;
  return recipe;
}

bool is_dynamic(const ObserverSpec& activation) {
  return activation.kind == "placeholder" && is_integer(activation.dtype);
}

Recipe default_dynamic_recipe() {
  Recipe recipe = default_recipe();
  recipe.name = "default_dynamic";
  recipe.mode = QuantMode::dynamic_quantization;
  recipe.global->activation = {};
  recipe.global->activation.kind = "placeholder";
  recipe.global->activation.dtype = DType::u8;
  return recipe;
}

Recipe default_weight_only_recipe() {
  Recipe recipe = default_recipe();
  recipe.name = "default_weight_only";
  recipe.mode = QuantMode::weight_only;
  recipe.global->activation = {};
  recipe.global->activation.kind = "placeholder";
  recipe.global->activation.dtype = DType::f32;
  QConfig table = *recipe.global;
  table.weight = {};
  table.weight.kind = "per_channel_min_max";
  table.weight.dtype = DType::u8;
  table.weight.qscheme = QScheme::per_channel_affine_float_qparams;
  recipe.object_type = {{"gather", table}, {"embedding_bag", table}};
  return recipe;
}

// ---- JSON

namespace {

constexpr std::pair<std::string_view, QuantMode> kModes[] = {{"none", QuantMode::none},
                                                             {"static", QuantMode::static_quantization},
                                                             {"dynamic", QuantMode::dynamic_quantization},
                                                             {"weight-only", QuantMode::weight_only}};

Json qconfig_to_json(const std::optional<QConfig>& config) {
  if (!config) return nullptr;
  return Json{{"activation", spec_to_json(config->activation)}, {"weight", spec_to_json(config->weight)}};
}

Result<ObserverSpec> observer_of(const Json& json, std::string_view key) {
  const Json* found = json_find(json, key);
  if (found == nullptr) return error(ErrorId::recipe_invalid, "qconfig: \"{}\" is missing", key);
  Result<ObserverSpec> spec = spec_from_json(*found);
  if (!spec.ok()) return std::move(spec).status().with_context(key);
  return spec;
}

Result<std::optional<QConfig>> qconfig_from_json(const Json& json) {
  if (json.is_null()) return std::optional<QConfig>();
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "qconfig: expected an object or null");
  QConfig config;
  AOQ_ASSIGN(config.activation, observer_of(json, "activation"));
  AOQ_ASSIGN(config.weight, observer_of(json, "weight"));
  return std::optional<QConfig>(std::move(config));
}

Json rules_to_json(const std::vector<QConfigRule>& rules) {
  Json out = Json::array();
  for (const QConfigRule& rule : rules) out.push_back(Json::array({rule.first, qconfig_to_json(rule.second)}));
  return out;
}

Result<std::vector<QConfigRule>> rules_from_json(const Json& json, std::string_view key) {
  std::vector<QConfigRule> rules;
  const Json* list = json_find(json, key);
  if (list == nullptr) return rules;
  if (!list->is_array()) return error(ErrorId::recipe_invalid, "recipe: \"{}\" is no list", key);
  for (const Json& entry : *list) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string()) {
      return error(ErrorId::recipe_invalid, "recipe: an entry of \"{}\" is {}, expected [\"pattern\", qconfig]", key,
                   entry.dump());
    }
    AOQ_ASSIGN(std::optional<QConfig> config, qconfig_from_json(entry[1]));
    rules.emplace_back(entry[0].get<std::string>(), std::move(config));
  }
  return rules;
}

// std::regex throws on a bad pattern: checked here once.
Status check_patterns(const std::vector<QConfigRule>& rules) {
  for (const QConfigRule& rule : rules) {
    try {
      std::regex compiled(rule.first);
    } catch (const std::regex_error& e) {
      return error(ErrorId::recipe_invalid, "recipe: \"{}\" is no regular expression: {}", rule.first, e.what());
    }
  }
  return {};
}

Status check_keys(const Json& json) {
  constexpr std::string_view kKnown[] = {
      "name",        "mode",       "global",          "object_type", "module_name_regex",
      "module_name", "keep_float", "bias_correction", "equalization"};
  for (const auto& [key, value] : json.items()) {
    if (std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown)) {
      return error(ErrorId::recipe_invalid, "recipe: unknown key \"{}\"; known: {}", key, fmt::join(kKnown, ", "));
    }
  }
  return {};
}

Result<QuantMode> mode_from_name(const std::string& name) {
  for (const auto& [text, mode] : kModes) {
    if (name == text) return mode;
  }
  return error(ErrorId::recipe_invalid, "recipe: mode is \"{}\", expected none, static, dynamic or weight-only", name);
}

}  // namespace

std::string print_recipe(const Recipe& recipe) {
  Json json{{"name", recipe.name},
            {"global", qconfig_to_json(recipe.global)},
            {"object_type", rules_to_json(recipe.object_type)},
            {"module_name_regex", rules_to_json(recipe.module_name_regex)},
            {"module_name", rules_to_json(recipe.module_name)},
            {"keep_float", recipe.keep_float},
            {"bias_correction", recipe.bias_correction},
            {"equalization", recipe.equalization}};
  for (const auto& [text, mode] : kModes) {
    if (mode == recipe.mode) json["mode"] = std::string(text);
  }
  return dump_json(json);
}

Result<Recipe> parse_recipe(std::string_view text) {
  AOQ_ASSIGN(Json json, parse_json(text));
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "recipe: expected a JSON object");
  AOQ_TRY(check_keys(json));
  Recipe recipe = default_recipe();
  if (json_find(json, "name") != nullptr) {
    AOQ_ASSIGN(recipe.name, json_string(json, "name"));
  }
  if (json_find(json, "mode") != nullptr) {
    AOQ_ASSIGN(std::string mode, json_string(json, "mode"));
    AOQ_ASSIGN(recipe.mode, mode_from_name(mode));
  }
  if (const Json* global = json_find(json, "global")) {
    AOQ_ASSIGN(recipe.global, qconfig_from_json(*global));
  }
  AOQ_ASSIGN(recipe.object_type, rules_from_json(json, "object_type"));
  AOQ_ASSIGN(recipe.module_name_regex, rules_from_json(json, "module_name_regex"));
  AOQ_TRY(check_patterns(recipe.module_name_regex));
  AOQ_ASSIGN(recipe.module_name, rules_from_json(json, "module_name"));
  if (const Json* keep = json_find(json, "keep_float")) {
    if (!keep->is_array()) return error(ErrorId::recipe_invalid, "recipe: \"keep_float\" is no list");
    for (const Json& entry : *keep) {
      if (!entry.is_string()) return error(ErrorId::recipe_invalid, "recipe: an entry of \"keep_float\" is no name");
      recipe.keep_float.push_back(entry.get<std::string>());
    }
  }
  if (json_find(json, "equalization") != nullptr) {
    AOQ_ASSIGN(recipe.equalization, json_bool(json, "equalization"));
  }
  if (json_find(json, "bias_correction") != nullptr) {
    AOQ_ASSIGN(recipe.bias_correction, json_bool(json, "bias_correction"));
  }
  AOQ_TRY(check_recipe(recipe));
  return recipe;
}

}  // namespace aoq
