// Observers and their specs as JSON, exactly.
#include <cmath>
#include <limits>

#include "passes/quantize/observer.h"

namespace aoq {
namespace {

constexpr std::string_view kSchemes[] = {"per_tensor_affine", "per_tensor_symmetric", "per_channel_affine",
                                         "per_channel_symmetric", "per_channel_affine_float_qparams"};
constexpr std::string_view kMappings[] = {"symmetric", "symmetric_no_clipping_error", "asymmetric"};

template <class Enum>
Result<Enum> enum_of(std::span<const std::string_view> names, const std::string& name) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
  }
  return error(Code::invalid_data, "observer spec: \"{}\" is unknown", name);
}

Json floats_to_json(const std::vector<float>& values) {
  Json array = Json::array();
  for (float v : values) array.push_back(hex_float(v));
  return array;
}

Result<std::vector<float>> floats_from_json(const Json& state, std::string_view key) {
  const Json* array = json_find(state, key);
  std::vector<float> values;
  if (array == nullptr) return values;
  if (!array->is_array()) return error(Code::invalid_data, "observer state: \"{}\" is no array", key);
  for (const Json& item : *array) {
    if (!item.is_string())
      return error(Code::invalid_data, "observer state: \"{}\" holds something else than strings", key);
    AOQ_ASSIGN(const double value, parse_hex_float(item.get_ref<const std::string&>()));
    const float narrow = static_cast<float>(value);
    if (narrow != value && !std::isnan(value)) {
      return error(Code::invalid_data, "observer state: {} is no f32", item.get_ref<const std::string&>());
    }
    values.push_back(narrow);
  }
  return values;
}

Result<double> float_option(const Json& json, std::string_view key) {
  AOQ_ASSIGN(const std::string text, json_string(json, key));
  return parse_hex_float(text);
}

Result<int> int_option(const Json& json, std::string_view key) {
  AOQ_ASSIGN(const std::int64_t value, json_integer(json, key));
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
    return error(Code::invalid_data, "observer spec: {} is {}", key, value);
  }
  return static_cast<int>(value);
}

// Ours, or one of PyTorch's.
std::optional<DType> dtype_by_any_name(std::string_view name) {
  constexpr std::pair<std::string_view, DType> kPyTorch[] = {
      {"quint8", DType::u8},   {"qint8", DType::i8},    {"qint32", DType::i32}, {"quint4x2", DType::u4},
      {"uint8", DType::u8},    {"int8", DType::i8},     {"int16", DType::i16},  {"uint16", DType::u16},
      {"int32", DType::i32},   {"float16", DType::f16}, {"half", DType::f16},   {"bfloat16", DType::bf16},
      {"float32", DType::f32}, {"float", DType::f32},
  };
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const auto& [known, dtype] : kPyTorch) {
    if (known == name) return dtype;
  }
  return dtype_from_name(name);
}

Status read_dtype(const Json& json, ObserverSpec& spec) {
  AOQ_ASSIGN(const std::string name, json_string(json, "dtype"));
  const std::optional<DType> dtype = dtype_by_any_name(name);
  if (!dtype) return error(Code::invalid_data, "observer spec: \"{}\" is no dtype", name);
  spec.dtype = *dtype;
  return {};
}

Status read_names(const Json& json, std::string_view key, ObserverSpec& spec) {
  AOQ_ASSIGN(const std::string name, json_string(json, key));
  if (key == "kind") spec.kind = name;
  if (key == "qscheme") {
    AOQ_ASSIGN(spec.qscheme, enum_of<QScheme>(kSchemes, name));
  }
  if (key == "mapping") {
    AOQ_ASSIGN(spec.mapping, enum_of<MappingType>(kMappings, name));
  }
  if (key == "granularity") {
    AOQ_ASSIGN(spec.granularity, parse_granularity(name));
  }
  return {};
}

Status read_own_options(const Json& json, ObserverSpec& spec) {
  const Json& options = *json_find(json, "options");
  if (!options.is_object()) return error(Code::invalid_data, "observer spec: \"options\" is no object of strings");
  for (const auto& [key, value] : options.items()) {
    AOQ_ASSIGN(spec.options[key], json_string(options, key));
  }
  return {};
}

Status read_option(const Json& json, const std::string& key, ObserverSpec& spec) {
  if (key == "dtype") return read_dtype(json, spec);
  if (key == "options") return read_own_options(json, spec);
  if (key == "kind" || key == "qscheme" || key == "mapping" || key == "granularity") return read_names(json, key, spec);
  struct FloatOption {
    std::string_view key;
    double ObserverSpec::* member;
  };
  constexpr FloatOption floats[] = {{"eps", &ObserverSpec::eps},
                                    {"averaging_constant", &ObserverSpec::averaging_constant},
                                    {"scale", &ObserverSpec::scale},
                                    {"percentile", &ObserverSpec::percentile}};
  for (const FloatOption& o : floats) {
    if (o.key != key) continue;
    AOQ_ASSIGN(spec.*o.member, float_option(json, key));
    return {};
  }
  struct IntOption {
    std::string_view key;
    int ObserverSpec::* member;
  };
  constexpr IntOption ints[] = {
      {"ch_axis", &ObserverSpec::ch_axis}, {"bins", &ObserverSpec::bins}, {"steps", &ObserverSpec::steps}};
  for (const IntOption& o : ints) {
    if (o.key != key) continue;
    AOQ_ASSIGN(spec.*o.member, int_option(json, key));
    return {};
  }
  if (key == "reduce_range") {
    AOQ_ASSIGN(spec.reduce_range, json_bool(json, key));
    return {};
  }
  if (key == "power_of_two_scale") {
    AOQ_ASSIGN(spec.power_of_two_scale, json_bool(json, key));
    return {};
  }
  std::int64_t value = 0;
  AOQ_ASSIGN(value, json_integer(json, key));
  if (key == "quant_min") {
    spec.quant_min = value;
  } else if (key == "quant_max") {
    spec.quant_max = value;
  } else if (key == "zero_point") {
    spec.zero_point = value;
  } else {
    return error(Code::invalid_data, "observer spec: unknown option \"{}\"", key);
  }
  return {};
}

}  // namespace

Json spec_to_json(const ObserverSpec& spec) {
  Json json = Json::object();
  json["kind"] = spec.kind;
  json["dtype"] = dtype_name(spec.dtype);
  json["qscheme"] = kSchemes[static_cast<std::size_t>(spec.qscheme)];
  json["reduce_range"] = spec.reduce_range;
  if (spec.quant_min) json["quant_min"] = *spec.quant_min;
  if (spec.quant_max) json["quant_max"] = *spec.quant_max;
  json["eps"] = hex_float(spec.eps);
  json["averaging_constant"] = hex_float(spec.averaging_constant);
  json["ch_axis"] = spec.ch_axis;
  json["bins"] = spec.bins;
  json["scale"] = hex_float(spec.scale);
  json["zero_point"] = spec.zero_point;
  json["percentile"] = hex_float(spec.percentile);
  json["mapping"] = kMappings[static_cast<std::size_t>(spec.mapping)];
  json["granularity"] = to_string(spec.granularity);
  json["steps"] = spec.steps;
  if (spec.power_of_two_scale) json["power_of_two_scale"] = true;
  if (!spec.options.empty()) json["options"] = spec.options;
  return json;
}

Result<ObserverSpec> spec_from_json(const Json& json) {
  if (!json.is_object()) return error(Code::invalid_data, "observer spec: not an object");
  ObserverSpec spec;
  for (const auto& [key, value] : json.items()) AOQ_TRY(read_option(json, key, spec));
  return spec;
}

Json observer_to_json(const Observer& observer) {
  const ObserverState& from = observer.state();
  Json state = Json::object();
  state["min"] = floats_to_json(from.min);
  state["max"] = floats_to_json(from.max);
  if (!from.histogram.empty()) state["histogram"] = floats_to_json(from.histogram);
  for (const ObserverState::Batch& b : from.batches) {
    state["batches"].push_back({{"shape", b.shape}, {"values", floats_to_json(b.values)}});
  }
  for (const auto& [name, values] : from.values) state["values"][name] = floats_to_json(values);
  return Json{{"spec", spec_to_json(observer.spec())}, {"state", std::move(state)}};
}

namespace {

Result<ObserverState::Batch> batch_from_json(const Json& json) {
  ObserverState::Batch batch;
  const Json* shape = json_find(json, "shape");
  if (shape == nullptr || !shape->is_array()) return error(Code::invalid_data, "observer state: a batch has no shape");
  for (const Json& d : *shape) {
    if (!d.is_number_integer()) return error(Code::invalid_data, "observer state: a dimension is {}", dump_json(d));
    batch.shape.push_back(d.get<std::int64_t>());
  }
  AOQ_ASSIGN(batch.values, floats_from_json(json, "values"));
  return batch;
}

Result<ObserverState> state_from_json(const Json& json) {
  ObserverState state;
  AOQ_ASSIGN(state.min, floats_from_json(json, "min"));
  AOQ_ASSIGN(state.max, floats_from_json(json, "max"));
  AOQ_ASSIGN(state.histogram, floats_from_json(json, "histogram"));
  if (const Json* batches = json_find(json, "batches")) {
    if (!batches->is_array()) return error(Code::invalid_data, "observer state: \"batches\" is no array");
    for (const Json& b : *batches) {
      AOQ_ASSIGN(ObserverState::Batch batch, batch_from_json(b));
      state.batches.push_back(std::move(batch));
    }
  }
  if (const Json* values = json_find(json, "values")) {
    if (!values->is_object()) return error(Code::invalid_data, "observer state: \"values\" is no object");
    for (const auto& [name, list] : values->items()) {
      AOQ_ASSIGN(state.values[name], floats_from_json(*values, name));
    }
  }
  return state;
}

}  // namespace

Result<std::unique_ptr<Observer>> observer_from_json(const Json& json) {
  const Json* spec_json = json_find(json, "spec");
  const Json* state_json = json_find(json, "state");
  if (spec_json == nullptr || state_json == nullptr) return error(Code::invalid_data, "observer: no spec or no state");
  AOQ_ASSIGN(const ObserverSpec spec, spec_from_json(*spec_json));
  AOQ_ASSIGN(std::unique_ptr<Observer> observer, make_observer(spec));
  AOQ_ASSIGN(ObserverState state, state_from_json(*state_json));
  AOQ_TRY(observer->restore(std::move(state)));
  return observer;
}

}  // namespace aoq
