#include "passes/quantize/recipe.h"

#include <algorithm>
#include <regex>

#include <fmt/format.h>

#include "formats/json/json.h"
#include "ir/error_id.h"
#include "passes/fx/backend_config.h"
#include "passes/quantize/check_recipe.h"

namespace aoq {

bool CustomConfig::is_empty() const {
  return non_traceable_module_name.empty() && non_traceable_module_class.empty() && custom_modules.empty() &&
         quantized_inputs.empty() && quantized_outputs.empty() && preserved_attributes.empty() &&
         standalone_module_name.empty() && standalone_module_class.empty();
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

bool is_entry_of(const std::string& entry, const Node& n) {
  if (entry == n.def().name || entry == n.scope.type || is_name_or_ancestor(entry, n.scope.path)) return true;
  return std::find(n.origins.begin(), n.origins.end(), entry) != n.origins.end();
}

}  // namespace

bool is_kept_float(const Recipe& recipe, const Node& node) {
  return std::ranges::any_of(recipe.keep_float, [&](const std::string& entry) { return is_entry_of(entry, node); });
}

QConfigMatch match_qconfig(const Recipe& recipe, const Node& node) {
  return match_qconfig(recipe, node, node.scope.path);
}

QConfigMatch match_qconfig(const Recipe& recipe, const Node& node, const std::string& path) {
  for (const std::string& entry : recipe.keep_float) {
    if (is_entry_of(entry, node)) return {nullptr, fmt::format("kept in float by \"{}\"", entry)};
  }
  if (const QConfigRule* rule = nearest(recipe.module_name, path)) return found(*rule, "module_name");
  for (const QConfigRule& rule : recipe.module_name_regex) {
    // The pattern was compiled once when the recipe was read, so it is valid.
    if (std::regex_search(path, std::regex(rule.first), std::regex_constants::match_continuous)) {
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
  Json json{{"activation", spec_to_json(config->activation)}, {"weight", spec_to_json(config->weight)}};
  if (config->inner) json["inner"] = spec_to_json(*config->inner);
  return json;
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
  if (json.is_string()) {
    AOQ_ASSIGN(QConfig named, fx::named_qconfig(json.get_ref<const std::string&>()));
    return std::optional<QConfig>(std::move(named));
  }
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "qconfig: expected an object, a name or null");
  QConfig config;
  AOQ_ASSIGN(config.activation, observer_of(json, "activation"));
  AOQ_ASSIGN(config.weight, observer_of(json, "weight"));
  if (json_find(json, "inner") != nullptr) {
    AOQ_ASSIGN(config.inner, observer_of(json, "inner"));
  }
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
  constexpr std::string_view kKnown[] = {"name",
                                         "mode",
                                         "global",
                                         "object_type",
                                         "module_name_regex",
                                         "module_name",
                                         "keep_float",
                                         "bias_correction",
                                         "equalization",
                                         "configs",
                                         "backend",
                                         "qat",
                                         "module_name_object_type_order",
                                         "non_traceable_module_name",
                                         "non_traceable_module_class",
                                         "custom_modules",
                                         "quantized_inputs",
                                         "quantized_outputs",
                                         "preserved_attributes",
                                         "standalone_module_name",
                                         "standalone_module_class"};
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

// ---- torchao's configurations

Json configs_to_json(const Recipe& recipe) {
  Json out = Json::array();
  for (const auto& [name, config] : recipe.configs) {
    Result<Json> json = config ? parse_json(torchao::print_config(*config)) : Result<Json>(Json());
    if (json.ok()) out.push_back(Json::array({name, std::move(*json)}));
  }
  return out;
}

Status read_config(const std::string& name, const Json& json, Recipe& recipe) {
  if (json.is_null()) {
    recipe.configs.emplace_back(name, std::nullopt);
    return {};
  }
  Result<torchao::Config> config = torchao::parse_config(dump_json(json));
  if (!config.ok()) return std::move(config).status().with_context(fmt::format("recipe: configs \"{}\"", name));
  recipe.configs.emplace_back(name, std::move(*config));
  return {};
}

Status read_configs(const Json& json, Recipe& recipe) {
  const Json* configs = json_find(json, "configs");
  if (configs == nullptr) return {};
  if (configs->is_object()) {
    for (const auto& [name, config] : configs->items()) AOQ_TRY(read_config(name, config, recipe));
    return {};
  }
  const Status malformed =
      error(ErrorId::recipe_invalid, "recipe: \"configs\" is neither an object nor a list of [name, configuration]");
  if (!configs->is_array()) return malformed;
  for (const Json& entry : *configs) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string()) return malformed;
    AOQ_TRY(read_config(entry[0].get<std::string>(), entry[1], recipe));
  }
  return {};
}

// ---- the FX workflow's part

std::string_view mode_name(QuantMode mode) {
  for (const auto& [text, m] : kModes) {
    if (m == mode) return text;
  }
  return "none";
}

void add_standalone(Json& json, const char* key, const std::vector<std::pair<std::string, std::string>>& modules) {
  for (const auto& [name, recipe] : modules) {
    Result<Json> inner = recipe.empty() ? Result<Json>(Json()) : parse_json(recipe);
    if (inner.ok()) json[key].push_back(Json::array({name, std::move(*inner)}));
  }
}

Json custom_to_json(const CustomConfig& custom) {
  Json json = Json::object();
  if (!custom.non_traceable_module_name.empty()) json["non_traceable_module_name"] = custom.non_traceable_module_name;
  if (!custom.non_traceable_module_class.empty()) {
    json["non_traceable_module_class"] = custom.non_traceable_module_class;
  }
  for (const CustomModule& m : custom.custom_modules) {
    json["custom_modules"].push_back(Json{{"mode", std::string(mode_name(m.mode))},
                                          {"float", m.float_class},
                                          {"observed", m.observed_class},
                                          {"quantized", m.quantized_class}});
  }
  for (const CustomConfig::QuantizedInput& q : custom.quantized_inputs) {
    json["quantized_inputs"].push_back(
        q.scale == 0 ? Json(q.index)
                     : Json{{"index", q.index}, {"scale", hex_float(q.scale)}, {"zero_point", q.zero_point}});
  }
  if (!custom.quantized_outputs.empty()) json["quantized_outputs"] = custom.quantized_outputs;
  if (!custom.preserved_attributes.empty()) json["preserved_attributes"] = custom.preserved_attributes;
  add_standalone(json, "standalone_module_name", custom.standalone_module_name);
  add_standalone(json, "standalone_module_class", custom.standalone_module_class);
  return json;
}

Result<const Json*> list_of(const Json& json, std::string_view key) {
  const Json* list = json_find(json, key);
  if (list != nullptr && !list->is_array()) return error(ErrorId::recipe_invalid, "recipe: \"{}\" is no list", key);
  return list;
}

Result<std::vector<std::string>> names_of(const Json& json, std::string_view key) {
  std::vector<std::string> names;
  AOQ_ASSIGN(const Json* list, list_of(json, key));
  if (list == nullptr) return names;
  for (const Json& entry : *list) {
    if (!entry.is_string()) return error(ErrorId::recipe_invalid, "recipe: an entry of \"{}\" is no name", key);
    names.push_back(entry.get<std::string>());
  }
  return names;
}

Status read_custom_modules(const Json& json, CustomConfig& custom) {
  AOQ_ASSIGN(const Json* list, list_of(json, "custom_modules"));
  if (list == nullptr) return {};
  for (const Json& entry : *list) {
    if (!entry.is_object()) return error(ErrorId::recipe_invalid, "recipe: an entry of custom_modules is no object");
    CustomModule m;
    AOQ_ASSIGN(const std::string mode, json_string(entry, "mode"));
    AOQ_ASSIGN(m.mode, mode_from_name(mode));
    AOQ_ASSIGN(m.float_class, json_string(entry, "float"));
    AOQ_ASSIGN(m.observed_class, json_string(entry, "observed"));
    AOQ_ASSIGN(m.quantized_class, json_string(entry, "quantized"));
    custom.custom_modules.push_back(std::move(m));
  }
  return {};
}

// An object with the scale, or an index alone where the scale is known elsewhere.
Result<CustomConfig::QuantizedInput> read_quantized_input(const Json& entry) {
  CustomConfig::QuantizedInput q;
  if (entry.is_number_integer()) {
    q.index = entry.get<std::int64_t>();
    return q;
  }
  if (!entry.is_object()) {
    return error(ErrorId::recipe_invalid, "recipe: an entry of quantized_inputs is no object and no index");
  }
  AOQ_ASSIGN(q.index, json_integer(entry, "index"));
  AOQ_ASSIGN(const std::string scale, json_string(entry, "scale"));
  AOQ_ASSIGN(q.scale, parse_hex_float(scale));
  AOQ_ASSIGN(q.zero_point, json_integer(entry, "zero_point"));
  if (q.scale > 0 && q.zero_point >= 0 && q.zero_point <= 255) return q;
  return error(ErrorId::recipe_invalid,
               "recipe: quantized input {} has scale {} and zero point {}, expected a positive number and 0 to 255",
               q.index, q.scale, q.zero_point);
}

Status read_quantized_boundaries(const Json& json, CustomConfig& custom) {
  AOQ_ASSIGN(const Json* inputs, list_of(json, "quantized_inputs"));
  for (std::size_t i = 0; inputs != nullptr && i < inputs->size(); ++i) {
    AOQ_ASSIGN(const CustomConfig::QuantizedInput q, read_quantized_input((*inputs)[i]));
    custom.quantized_inputs.push_back(q);
  }
  AOQ_ASSIGN(const Json* outputs, list_of(json, "quantized_outputs"));
  if (outputs == nullptr) return {};
  for (const Json& entry : *outputs) {
    if (!entry.is_number_integer()) return error(ErrorId::recipe_invalid, "recipe: quantized_outputs holds no indexes");
    custom.quantized_outputs.push_back(entry.get<std::int64_t>());
  }
  return {};
}

// What a standalone module's recipe does not say about the backend is as around it.
Result<std::string> standalone_recipe(const Json& json, const Json& outer) {
  if (json.is_null()) return std::string();
  Json own = json;
  for (const char* key : {"backend", "qat"}) {
    const Json* inherited = json_find(outer, key);
    if (json_find(json, key) == nullptr && inherited != nullptr) own[key] = *inherited;
  }
  AOQ_ASSIGN(const Recipe inner, parse_recipe(dump_json(own)));
  for (const CustomModule& m : inner.custom.custom_modules) {
    if (m.float_class == "LSTM" || m.float_class == "GRU") continue;
    return error(ErrorId::recipe_invalid, "custom module {} has no converted form in a standalone module",
                 m.float_class);
  }
  return print_recipe(inner);
}

Status read_standalone(const Json& json, const char* key, std::vector<std::pair<std::string, std::string>>& out) {
  AOQ_ASSIGN(const Json* list, list_of(json, key));
  if (list == nullptr) return {};
  for (const Json& entry : *list) {
    const bool is_pair = entry.is_array() && entry.size() == 2 && entry[0].is_string();
    if (!is_pair || !(entry[1].is_object() || entry[1].is_null())) {
      return error(ErrorId::recipe_invalid, "recipe: an entry of {} is no [name, recipe or null]", key);
    }
    Result<std::string> inner = standalone_recipe(entry[1], json);
    if (!inner.ok()) return std::move(inner).status().with_context(fmt::format("{} {}", key, entry[0].dump()));
    out.emplace_back(entry[0].get<std::string>(), std::move(*inner));
  }
  return {};
}

Status read_order_rules(const Json& json, Recipe& recipe) {
  AOQ_ASSIGN(const Json* list, list_of(json, "module_name_object_type_order"));
  if (list == nullptr) return {};
  for (const Json& entry : *list) {
    if (!entry.is_array() || entry.size() != 4 || !entry[0].is_string() || !entry[1].is_string() ||
        !entry[2].is_number_integer()) {
      return error(ErrorId::recipe_invalid,
                   "recipe: an entry of module_name_object_type_order is {}, expected [module, type, index, qconfig]",
                   entry.dump());
    }
    OrderRule rule{entry[0].get<std::string>(), entry[1].get<std::string>(), entry[2].get<std::int64_t>(), {}};
    AOQ_ASSIGN(rule.qconfig, qconfig_from_json(entry[3]));
    recipe.module_name_object_type_order.push_back(std::move(rule));
  }
  return {};
}

// The recipe that the keys of a text replace: PyTorch's default mapping where a backend is named, nothing where layers
// have configurations.
Result<Recipe> base_recipe(const Json& json) {
  const Json* backend = json_find(json, "backend");
  if (backend == nullptr && json_find(json, "configs") != nullptr) {
    Recipe recipe;
    recipe.mode = QuantMode::weight_only;
    recipe.bias_correction = recipe.equalization = false;
    return recipe;
  }
  if (backend == nullptr) return default_recipe();
  bool qat = false;
  if (json_find(json, "qat") != nullptr) {
    AOQ_ASSIGN(qat, json_bool(json, "qat"));
  }
  if (backend->is_object()) {
    AOQ_TRY(fx::backend_config_from_json(*backend).status());
    AOQ_ASSIGN(Recipe recipe, qat ? fx::fx_qat_recipe("x86") : fx::fx_recipe("x86"));
    recipe.backend = dump_json(*backend);
    return recipe;
  }
  if (!backend->is_string()) return error(ErrorId::recipe_invalid, "recipe: \"backend\" is no name and no object");
  const std::string name = backend->get<std::string>();
  const std::string mapping = name == "native" ? "x86" : name;
  AOQ_ASSIGN(Recipe recipe, qat ? fx::fx_qat_recipe(mapping) : fx::fx_recipe(mapping));
  recipe.backend = name;
  return recipe;
}

Status read_fx(const Json& json, Recipe& recipe) {
  AOQ_TRY(read_order_rules(json, recipe));
  AOQ_ASSIGN(recipe.custom.non_traceable_module_name, names_of(json, "non_traceable_module_name"));
  AOQ_ASSIGN(recipe.custom.non_traceable_module_class, names_of(json, "non_traceable_module_class"));
  AOQ_ASSIGN(recipe.custom.preserved_attributes, names_of(json, "preserved_attributes"));
  AOQ_TRY(read_custom_modules(json, recipe.custom));
  AOQ_TRY(read_quantized_boundaries(json, recipe.custom));
  AOQ_TRY(read_standalone(json, "standalone_module_name", recipe.custom.standalone_module_name));
  AOQ_TRY(read_standalone(json, "standalone_module_class", recipe.custom.standalone_module_class));
  const bool needs_backend = !recipe.custom.is_empty() || !recipe.module_name_object_type_order.empty();
  if (!recipe.backend.empty() || !needs_backend) return {};
  return error(ErrorId::recipe_invalid,
               "recipe: module_name_object_type_order, non_traceable_*, custom_modules, quantized_*, "
               "preserved_attributes and standalone_module_* belong to the FX workflow: name a \"backend\"");
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
  json["mode"] = std::string(mode_name(recipe.mode));
  if (!recipe.configs.empty()) json["configs"] = configs_to_json(recipe);
  if (recipe.backend.empty()) return dump_json(json);
  Result<Json> backend =
      recipe.backend.starts_with('{') ? parse_json(recipe.backend) : Result<Json>(Json(recipe.backend));
  if (backend.ok()) json["backend"] = std::move(*backend);
  json["qat"] = recipe.qat;
  for (const OrderRule& rule : recipe.module_name_object_type_order) {
    json["module_name_object_type_order"].push_back(
        Json::array({rule.module, rule.object_type, rule.index, qconfig_to_json(rule.qconfig)}));
  }
  json.update(custom_to_json(recipe.custom));
  return dump_json(json);
}

Result<Recipe> parse_recipe(std::string_view text) {
  AOQ_ASSIGN(Json json, parse_json(text));
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "recipe: expected a JSON object");
  AOQ_TRY(check_keys(json));
  AOQ_ASSIGN(Recipe recipe, base_recipe(json));
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
  if (json_find(json, "object_type") != nullptr) {
    AOQ_ASSIGN(recipe.object_type, rules_from_json(json, "object_type"));
  }
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
  AOQ_TRY(read_configs(json, recipe));
  AOQ_TRY(read_fx(json, recipe));
  AOQ_TRY(check_recipe(recipe));
  return recipe;
}

}  // namespace aoq
