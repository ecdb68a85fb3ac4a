#include "passes/torchao/config.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "formats/json/json.h"
#include "ir/error_id.h"
#include "ir/nearest_name.h"
#include "passes/torchao/handlers.h"

namespace aoq::torchao {

namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, Handler, std::less<>> handlers;
};

Status add(Registry& registry, Handler handler) {
  if (handler.type.empty() || handler.quantize == nullptr) {
    return error(Code::invalid_argument, "handler \"{}\": a type and a function to quantize are required",
                 handler.type);
  }
  const std::string type = handler.type;
  if (registry.handlers.emplace(type, std::move(handler)).second) return {};
  return error(Code::invalid_argument, "a handler for {} is registered already", type);
}

Registry& registry() {
  static Registry* const r = [] {
    auto* made = new Registry;  // lives as long as the process
    for (Handler& handler : built_in_handlers()) AOQ_CHECK(add(*made, std::move(handler)).ok());
    return made;
  }();
  return *r;
}

const AttributeDef* field_of(const Handler& handler, std::string_view name) {
  for (const AttributeDef& def : handler.fields) {
    if (name == def.name) return &def;
  }
  return nullptr;
}

bool may_be_absent(const AttributeDef& def) {
  return def.default_text != nullptr && std::string_view(def.default_text) == "absent";
}

Result<const Handler*> handler_of(std::string_view type) {
  if (const Handler* found = find_handler(type)) return found;
  std::vector<std::string> known;
  for (const Handler* h : all_handlers()) known.push_back(h->type);
  const std::string nearest = nearest_name(type, known);
  return error(ErrorId::recipe_invalid, "no handler is registered for the configuration \"{}\"{}", type,
               nearest.empty() ? std::string() : fmt::format("; did you mean {}?", nearest));
}

Status unknown_field(const Handler& handler, std::string_view name) {
  std::vector<std::string> known;
  for (const AttributeDef& def : handler.fields) known.emplace_back(def.name);
  const std::string nearest = nearest_name(name, known);
  return error(ErrorId::recipe_invalid, "{} has no field \"{}\"{}", handler.type, name,
               nearest.empty() ? std::string() : fmt::format("; did you mean {}?", nearest));
}

// torch's names of integers and small floats, and ours.
std::optional<DType> dtype_named(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  constexpr std::pair<std::string_view, DType> kFloats[] = {{"float32", DType::f32},
                                                            {"float16", DType::f16},
                                                            {"bfloat16", DType::bf16},
                                                            {"float8_e4m3fn", DType::f8_e4m3fn},
                                                            {"float8_e5m2", DType::f8_e5m2},
                                                            {"float8_e4m3fnuz", DType::f8_e4m3fnuz},
                                                            {"float8_e5m2fnuz", DType::f8_e5m2fnuz}};
  for (const auto& [torch, dtype] : kFloats) {
    if (name == torch) return dtype;
  }
  if (name.starts_with("uint")) return dtype_from_name("u" + std::string(name.substr(4)));
  if (name.starts_with("int")) return dtype_from_name("i" + std::string(name.substr(3)));
  return dtype_from_name(name);
}

// A plain value, or torchao's {"_type": ..., "_data": ...} around one; a granularity becomes its text.
Json plain(const Json& value) {
  if (!value.is_object() || !value.contains("_data") || !value.contains("_type")) return value;
  const Json& data = value["_data"];
  if (!data.is_object()) return data;
  std::string text = value["_type"].is_string() ? value["_type"].get<std::string>() : std::string();
  for (const char* key : {"group_size", "axis", "dim"}) {
    if (data.contains(key) && data[key].is_number_integer()) {
      return text + "(" + std::to_string(data[key].get<std::int64_t>()) + ")";
    }
  }
  // PerBlock's extents.
  const Json* block = json_find(data, "block_size");
  const bool is_pair = block != nullptr && block->is_array() && block->size() == 2 && (*block)[0].is_number_integer() &&
                       (*block)[1].is_number_integer();
  if (is_pair) return fmt::format("{}({}, {})", text, (*block)[0].get<std::int64_t>(), (*block)[1].get<std::int64_t>());
  return text;
}

Result<Attribute> value_of(const Handler& handler, const AttributeDef& def, const Json& given) {
  const Json value = plain(given);
  switch (def.kind) {
    case AttributeKind::boolean:
      if (value.is_boolean()) return Attribute(value.get<bool>());
      break;
    case AttributeKind::integer:
      if (value.is_number_integer()) return Attribute(value.get<std::int64_t>());
      break;
    case AttributeKind::real:
      if (value.is_number()) return Attribute(value.get<double>());
      break;
    case AttributeKind::string:
      if (value.is_string()) return Attribute(value.get<std::string>());
      break;
    case AttributeKind::dtype:
      if (value.is_string()) {
        if (const std::optional<DType> dtype = dtype_named(value.get<std::string>())) return Attribute(*dtype);
      }
      break;
    case AttributeKind::integers: {
      std::vector<std::int64_t> integers;
      bool fits = value.is_array();
      for (std::size_t i = 0; fits && i < value.size(); ++i) {
        fits = value[i].is_number_integer();
        if (fits) integers.push_back(value[i].get<std::int64_t>());
      }
      if (fits) return Attribute(std::move(integers));
      break;
    }
    default:
      break;
  }
  return error(ErrorId::recipe_invalid, "{}: field \"{}\" is {}, expected {}", handler.type, def.name, dump_json(given),
               def.kind == AttributeKind::dtype ? "a dtype such as \"int4\"" : attribute_kind_name(def.kind));
}

// Weights near the ends of their type have ranges beyond it.
Status check_finite(const QuantizedWeight& weight) {
  const auto check = [](const std::vector<float>& numbers, const char* name) -> Status {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (std::isfinite(numbers[i])) continue;
      return error(Code::invalid_data, "{} {} of the weight would be {}: its numbers reach too far", name, i,
                   numbers[i]);
    }
    return {};
  };
  AOQ_TRY(check(weight.qparams.scale, "scale"));
  AOQ_TRY(check(weight.qparams.float_zero_point, "zero point"));
  return check(weight.pre_scale, "pre-scale");
}

Result<Config> config_from(const Json& json) {
  const bool is_torchao = json.is_object() && json.contains("_type");
  const Result<std::string> type = json_string(json, is_torchao ? "_type" : "type");
  if (!type.ok()) return error(ErrorId::recipe_invalid, "a configuration: {}", type.status().message());
  AOQ_ASSIGN(const Handler* handler, handler_of(*type));
  Config config;
  config.type = *type;
  const Json* data = is_torchao ? json_find(json, "_data") : &json;
  if (data == nullptr || !data->is_object()) return complete(std::move(config));
  for (const auto& [key, value] : data->items()) {
    if (key == "type" && !is_torchao) continue;
    if (key == "base_config" && handler->has_base) {
      AOQ_ASSIGN(Config base, config_from(value));
      config.base.push_back(std::move(base));
      continue;
    }
    const AttributeDef* def = field_of(*handler, key);
    // torchao writes fields that choose its own kernels.
    if (def == nullptr && is_torchao) continue;
    if (def == nullptr) return unknown_field(*handler, key);
    if (value.is_null() && may_be_absent(*def)) continue;
    AOQ_ASSIGN(Attribute attribute, value_of(*handler, *def, value));
    config.fields.set(key, std::move(attribute));
  }
  return complete(std::move(config));
}

Json json_of(const Attribute& a) {
  switch (kind_of(a)) {
    case AttributeKind::boolean:
      return std::get<bool>(a);
    case AttributeKind::integer:
      return std::get<std::int64_t>(a);
    case AttributeKind::real:
      return std::get<double>(a);
    case AttributeKind::string:
      return std::get<std::string>(a);
    case AttributeKind::dtype:
      return std::string(dtype_name(std::get<DType>(a)));
    case AttributeKind::integers:
      return Json(std::get<std::vector<std::int64_t>>(a));
    default:
      return Json();
  }
}

Json json_of(const Config& config) {
  Json json{{"type", config.type}};
  for (const auto& [name, value] : config.fields) json[name] = json_of(value);
  if (!config.base.empty()) json["base_config"] = json_of(config.base.front());
  return json;
}

}  // namespace

Quantized does_not_fit(std::string reason) {
  return {std::nullopt, std::move(reason), true};
}

bool operator==(const Config& a, const Config& b) {
  const auto same = [](const auto& x, const auto& y) { return x.first == y.first && equal(x.second, y.second); };
  return a.type == b.type && a.base == b.base &&
         std::equal(a.fields.begin(), a.fields.end(), b.fields.begin(), b.fields.end(), same);
}

Status register_handler(Handler handler) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  return add(r, std::move(handler));
}

const Handler* find_handler(std::string_view type) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto found = r.handlers.find(type);
  return found == r.handlers.end() ? nullptr : &found->second;
}

std::vector<const Handler*> all_handlers() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::vector<const Handler*> out;
  for (const auto& [name, handler] : r.handlers) out.push_back(&handler);
  return out;
}

Result<Config> parse_config(std::string_view json) {
  AOQ_ASSIGN(const Json parsed, parse_json(json));
  return config_from(parsed);
}

std::string print_config(const Config& config) {
  return dump_json(json_of(config));
}

Result<Config> complete(Config config) {
  AOQ_ASSIGN(const Handler* handler, handler_of(config.type));
  for (const auto& [name, value] : config.fields) {
    const AttributeDef* def = field_of(*handler, name);
    if (def == nullptr) return unknown_field(*handler, name);
    if (kind_of(value) == def->kind) continue;
    return error(ErrorId::recipe_invalid, "{}: field \"{}\" is of the kind {}, expected {}", config.type, name,
                 attribute_kind_name(kind_of(value)), attribute_kind_name(def->kind));
  }
  for (const AttributeDef& def : handler->fields) {
    if (config.fields.has(def.name)) continue;
    if (std::optional<Attribute> value = default_value(def)) {
      config.fields.set(def.name, std::move(*value));
    } else if (def.default_text == nullptr) {
      return error(ErrorId::recipe_invalid, "{} needs the field \"{}\": {}", config.type, def.name, def.doc);
    }
  }
  if (config.base.size() == (handler->has_base ? 1u : 0u)) return config;
  if (!handler->has_base) return error(ErrorId::recipe_invalid, "{} takes no base_config", config.type);
  return error(ErrorId::recipe_invalid, "{} needs one base_config: what it works for", config.type);
}

bool needs_data(const Config& config) {
  const Handler* handler = find_handler(config.type);
  if (handler == nullptr) return false;
  return handler->observe != nullptr || std::ranges::any_of(config.base, needs_data);
}

Result<std::unique_ptr<InputObserver>> observe_inputs(const Config& config, const LinearSite& site) {
  AOQ_ASSIGN(const Handler* handler, handler_of(config.type));
  if (handler->observe == nullptr) return std::unique_ptr<InputObserver>();
  return handler->observe(config, site);
}

Result<Quantized> quantize_weight(const Config& config, const LinearSite& site, InputObserver* observer) {
  AOQ_ASSIGN(const Handler* handler, handler_of(config.type));
  Result<Quantized> quantized = handler->quantize(config, site, observer);
  if (!quantized.ok()) return std::move(quantized).status().with_context(config.type);
  Status finite = quantized->weight ? check_finite(*quantized->weight) : Status();
  if (!finite.ok()) return std::move(finite).with_context(config.type);
  return quantized;
}

Result<Granularity> granularity_field(const Config& config, const char* name) {
  Result<Granularity> parsed = parse_granularity(config.fields.string(name));
  if (parsed.ok()) return parsed;
  return error(ErrorId::recipe_invalid, "{}: field \"{}\": {}", config.type, name, parsed.status().message());
}

Result<MappingType> mapping_field(const Config& config, const char* name) {
  std::string text = config.fields.string(name);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (text == "symmetric") return MappingType::symmetric;
  if (text == "symmetric_no_clipping_err") return MappingType::symmetric_no_clipping_error;
  if (text == "asymmetric") return MappingType::asymmetric;
  return error(ErrorId::recipe_invalid,
               "{}: field \"{}\" is \"{}\", expected symmetric, symmetric_no_clipping_err or asymmetric", config.type,
               name, config.fields.string(name));
}

}  // namespace aoq::torchao
