#include "passes/fx/backend_config.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "ir/error_id.h"

namespace aoq::fx {

namespace {

using Names = std::vector<std::string>;

const Names kRelu = {"ReLU", "F.relu", "relu"};
const Names kAnyRelu = {"ReLU", "F.relu", "torch.relu", "relu"};

DTypeConfig integer_config(bool has_weight, bool is_dynamic) {
  DTypeConfig c;
  c.input.dtype = DType::u8;
  if (!is_dynamic) c.output.dtype = DType::u8;
  if (has_weight) c.weight.dtype = DType::i8;
  c.is_dynamic = is_dynamic;
  return c;
}

DTypeConfig half_config() {
  DTypeConfig c;
  c.input.dtype = c.weight.dtype = DType::f16;
  c.is_dynamic = true;
  return c;
}

DTypeConfig fixed_config(double scale, std::int64_t zero_point) {
  DTypeConfig c = integer_config(false, false);
  c.input = {DType::u8, {}, {}, {}, {}, {}};
  c.output = {DType::u8, 0, 255, {}, scale, zero_point};
  return c;
}

DTypeConfig table_config(DType dtype) {
  DTypeConfig c;
  c.weight.dtype = dtype;
  return c;
}

// qnnpack also takes symmetric int8: weights without -128 and scales of at least 2^-12.
DTypeConfig symmetric_config(bool has_weight) {
  DTypeConfig c;
  c.input = {DType::i8, {}, {}, 0x1p-12, {}, {}};
  c.output = {DType::i8, {}, {}, 0x1p-12, {}, {}};
  if (has_weight) c.weight = {DType::i8, -127, 127, 0x1p-12, {}, {}};
  return c;
}

class Builder {
 public:
  explicit Builder(std::string_view name) : is_qnnpack_(name == "qnnpack"), is_onednn_(name == "onednn") {
    config_.name = std::string(name);
  }

  BackendConfig build() {
    weighted("Linear", {"Linear", "linear"}, {"F.linear"}, true);
    for (const char* d : {"1d", "2d", "3d"}) {
      const std::string n = d;
      weighted("Conv" + n, {"Conv" + n, "conv"}, {"F.conv" + n}, false);
      transposed(n);
    }
    if (is_onednn_) residual_fusions();
    arithmetic();
    defaults();
    fixed();
    shared();
    rest();
    return std::move(config_);
  }

 private:
  void add(std::vector<Names> pattern, Observation observation, std::vector<DTypeConfig> dtypes,
           std::string fused = {}) {
    config_.patterns.push_back({std::move(pattern), observation, std::move(dtypes), std::move(fused)});
  }

  std::vector<DTypeConfig> weight_configs(bool has_dynamic) const {
    std::vector<DTypeConfig> c{integer_config(true, false)};
    if (is_qnnpack_) c.push_back(symmetric_config(true));
    if (has_dynamic) c.push_back(integer_config(true, true));
    if (has_dynamic) c.push_back(half_config());
    return c;
  }

  std::vector<DTypeConfig> plain_configs() const {
    std::vector<DTypeConfig> c{integer_config(false, false)};
    if (is_qnnpack_) c.push_back(symmetric_config(false));
    return c;
  }

  // A weighted module, its functions, and both with a batch norm or a relu behind.
  void weighted(const std::string& type, const Names& module, const Names& function, bool has_dynamic) {
    const std::vector<DTypeConfig> dtypes = weight_configs(has_dynamic);
    const std::string d = type == "Linear" ? "1d" : type.substr(4);
    const Names norm{"BatchNorm" + d, "batch_norm"};
    const std::string fused_relu = type == "Linear" ? "LinearReLU" : "ConvReLU" + d;
    // PyTorch's folded linear keeps its batch norm's relu apart.
    if (type != "Linear") add({module, norm, kRelu}, Observation::different, dtypes, fused_relu);
    add({module, norm}, Observation::different, dtypes, type);
    add({module, kRelu}, Observation::different, dtypes, fused_relu);
    // Where a batch norm was folded the relu behind it is left.
    add({module, kRelu}, Observation::different, dtypes);
    add({module}, Observation::different, dtypes);
    add({function, kRelu}, Observation::different, dtypes);
    add({function}, Observation::different, dtypes);
  }

  void transposed(const std::string& d) {
    const std::vector<DTypeConfig> dtypes = weight_configs(false);
    const Names module{"ConvTranspose" + d, "conv_transpose"};
    add({module, {"BatchNorm" + d, "batch_norm"}}, Observation::different, dtypes, "ConvTranspose" + d);
    add({module}, Observation::different, dtypes);
    add({{"F.conv_transpose" + d}}, Observation::different, dtypes);
  }

  void residual_fusions() {
    const std::vector<DTypeConfig> linear = weight_configs(true);
    add({{"Linear", "linear"}, {"LeakyReLU", "leaky_relu"}}, Observation::different, linear, "LinearLeakyReLU");
    add({{"Linear", "linear"}, {"Tanh", "tanh"}}, Observation::different, linear, "LinearTanh");
  }

  void arithmetic() {
    const std::vector<DTypeConfig> dtypes = plain_configs();
    for (const Names& op : {Names{"operator.add", "torch.add", "add"}, Names{"operator.mul", "torch.mul", "mul"}}) {
      add({op, kAnyRelu}, Observation::by_tensors, dtypes);
      add({op}, Observation::by_tensors, dtypes);
    }
    add({{"torch.matmul", ".matmul", "torch.bmm", "operator.matmul", "matmul"}}, Observation::different, dtypes);
    add({{"torch.cat", "concat"}}, Observation::shared, dtypes);
  }

  void defaults() {
    const std::vector<DTypeConfig> dtypes = plain_configs();
    for (const char* d : {"2d", "3d"}) {
      const std::string n = d;
      add({{"BatchNorm" + n}, kRelu}, Observation::different, dtypes, "BNReLU" + n);
      add({{"BatchNorm" + n}}, Observation::different, dtypes);
    }
    for (const char* name : {"ELU",
                             "LeakyReLU",
                             "Hardswish",
                             "InstanceNorm1d",
                             "InstanceNorm2d",
                             "InstanceNorm3d",
                             "Dropout",
                             "PReLU",
                             "LayerNorm",
                             "F.elu",
                             "F.hardswish",
                             "F.leaky_relu",
                             "F.dropout",
                             "F.group_norm",
                             "F.instance_norm",
                             "F.layer_norm",
                             "elu",
                             "leaky_relu",
                             "hardswish",
                             "instance_norm",
                             "layer_norm",
                             "prelu"}) {
      add({{name}}, Observation::different, dtypes);
    }
  }

  void fixed() {
    for (const char* name : {"Hardsigmoid", "F.hardsigmoid", ".hardsigmoid", "hardsigmoid", "Sigmoid", "torch.sigmoid",
                             ".sigmoid", "sigmoid", "Softmax", "softmax"}) {
      add({{name}}, Observation::different, {fixed_config(1.0 / 256.0, 0)});
    }
    for (const char* name : {"Tanh", "torch.tanh", ".tanh", "tanh"}) {
      add({{name}}, Observation::different, {fixed_config(2.0 / 256.0, 128)});
    }
  }

  void shared() {
    const std::vector<DTypeConfig> dtypes = plain_configs();
    Names names = {"Hardtanh",
                   "Identity",
                   "ReLU",
                   "ReLU6",
                   "F.relu",
                   "F.relu6",
                   "F.hardtanh",
                   "F.interpolate",
                   "torch.clamp",
                   "torch.flatten",
                   "torch.mean",
                   "torch.repeat_interleave",
                   "torch.transpose",
                   "torch.squeeze",
                   "torch.stack",
                   "torch.unsqueeze",
                   "operator.floordiv",
                   ".contiguous",
                   ".clamp",
                   ".detach",
                   ".mean",
                   ".permute",
                   ".repeat",
                   ".repeat_interleave",
                   ".reshape",
                   ".relu",
                   ".relu_",
                   ".squeeze",
                   ".transpose",
                   ".unsqueeze",
                   ".view",
                   "Upsample",
                   "PixelShuffle",
                   "relu",
                   "clamp",
                   "reshape",
                   "permute",
                   "max_pool",
                   "avg_pool",
                   "reduce_mean",
                   "depth_to_space"};
    for (const char* d : {"1d", "2d", "3d"}) {
      for (const char* pool : {"AdaptiveAvgPool", "AvgPool", "MaxPool"}) names.push_back(std::string(pool) + d);
      for (const char* pool : {"F.adaptive_avg_pool", "F.avg_pool", "F.max_pool"})
        names.push_back(std::string(pool) + d);
    }
    for (const std::string& name : names) add({{name}}, Observation::shared, dtypes);
  }

  void rest() {
    add({{"QuantStub"}}, Observation::different, plain_configs());
    for (const char* name : {".shape", ".size", "dims"}) add({{name}}, Observation::not_observed, {});
    for (const char* name : {"LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "lstm", "gru", "rnn"}) {
      add({{name}}, Observation::different, {integer_config(true, true), half_config()});
    }
    for (const char* name : {"Embedding", "EmbeddingBag", "F.embedding", "gather", "embedding_bag"}) {
      add({{name}}, Observation::different, {table_config(DType::u8), table_config(DType::u4)});
    }
  }

  BackendConfig config_;
  bool is_qnnpack_, is_onednn_;
};

}  // namespace

std::vector<std::string> backend_names() {
  return {"native", "fbgemm", "x86", "qnnpack", "onednn"};
}

Result<BackendConfig> backend_config(std::string_view name) {
  const std::vector<std::string> names = backend_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return error(ErrorId::recipe_invalid, "\"{}\" is no backend; known: {}", name, fmt::join(names, ", "));
  }
  return Builder(name).build();
}

// ---- what a backend supports

namespace {

Status fits(const char* what, const DTypeConstraint& wanted, const ObserverSpec& spec) {
  if (spec.kind == "reuse_input") return {};
  const bool is_float = spec.dtype == DType::f32;
  if (!wanted.dtype) {
    return is_float ? Status()
                    : error(Code::unsupported, "{} is {}, the backend takes f32", what, dtype_name(spec.dtype));
  }
  if (spec.dtype != *wanted.dtype) {
    return error(Code::unsupported, "{} is {}, the backend takes {}", what, dtype_name(spec.dtype),
                 dtype_name(*wanted.dtype));
  }
  if (wanted.quant_min_lower_bound && spec.quant_min && *spec.quant_min < *wanted.quant_min_lower_bound) {
    return error(Code::unsupported, "{}: quant_min is {}, the backend takes {} or more", what, *spec.quant_min,
                 *wanted.quant_min_lower_bound);
  }
  if (wanted.quant_max_upper_bound && spec.quant_max && *spec.quant_max > *wanted.quant_max_upper_bound) {
    return error(Code::unsupported, "{}: quant_max is {}, the backend takes {} or less", what, *spec.quant_max,
                 *wanted.quant_max_upper_bound);
  }
  if (wanted.scale_min_lower_bound && spec.eps < *wanted.scale_min_lower_bound) {
    return error(Code::unsupported, "{}: eps is {}, the backend takes {} or more", what, spec.eps,
                 *wanted.scale_min_lower_bound);
  }
  if (!wanted.scale_exact_match) return {};
  const bool same = spec.kind == "fixed_qparams" && spec.scale == *wanted.scale_exact_match &&
                    spec.zero_point == wanted.zero_point_exact_match.value_or(0);
  return same ? Status()
              : error(Code::unsupported, "{}: the backend takes scale {} and zero point {} only", what,
                      *wanted.scale_exact_match, wanted.zero_point_exact_match.value_or(0));
}

Status fits(const DTypeConfig& config, const QConfig& qconfig, bool has_weight) {
  const bool wants_dynamic = is_dynamic_qconfig(qconfig);
  if (config.is_dynamic != wants_dynamic) {
    return error(Code::unsupported, "it is quantized {}, the backend does it {}",
                 config.is_dynamic ? "statically" : "dynamically", config.is_dynamic ? "dynamically" : "statically");
  }
  // Fixed ranges are demands on the result: the input has the observer of whatever made it.
  if (!config.output.scale_exact_match) AOQ_TRY(fits("the activation", config.input, qconfig.activation));
  if (!config.is_dynamic) AOQ_TRY(fits("the activation", config.output, qconfig.activation));
  return has_weight ? fits("the weight", config.weight, qconfig.weight) : Status();
}

}  // namespace

bool is_dynamic_qconfig(const QConfig& qconfig) {
  const ObserverSpec& x = qconfig.activation;
  return is_dynamic(x) || (x.kind == "placeholder" && x.dtype == DType::f16);
}

Status supports(const BackendPattern& pattern, const QConfig& qconfig, bool has_weight) {
  Status first = error(Code::unsupported, "the backend has no types for it");
  bool is_first = true;
  for (const DTypeConfig& config : pattern.dtypes) {
    Status s = fits(config, qconfig, has_weight);
    if (s.ok()) return {};
    if (is_first) first = std::move(s);
    is_first = false;
  }
  return first;
}

// ---- JSON

namespace {

constexpr std::string_view kObservations[] = {"different", "shared", "not_observed", "by_tensors"};

Json constraint_to_json(const DTypeConstraint& c) {
  Json json = Json::object();
  if (c.dtype) json["dtype"] = std::string(dtype_name(*c.dtype));
  if (c.quant_min_lower_bound) json["quant_min_lower_bound"] = *c.quant_min_lower_bound;
  if (c.quant_max_upper_bound) json["quant_max_upper_bound"] = *c.quant_max_upper_bound;
  if (c.scale_min_lower_bound) json["scale_min_lower_bound"] = hex_float(*c.scale_min_lower_bound);
  if (c.scale_exact_match) json["scale_exact_match"] = hex_float(*c.scale_exact_match);
  if (c.zero_point_exact_match) json["zero_point_exact_match"] = *c.zero_point_exact_match;
  return json;
}

Result<double> hex_of(const Json& json, std::string_view key) {
  AOQ_ASSIGN(const std::string text, json_string(json, key));
  return parse_hex_float(text);
}

Status unknown_key(std::string_view where, const std::string& key) {
  return error(ErrorId::recipe_invalid, "backend configuration: unknown key \"{}\" in {}", key, where);
}

Result<DTypeConstraint> constraint_from_json(const Json& json) {
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "backend configuration: a type is no object");
  DTypeConstraint c;
  for (const auto& [key, value] : json.items()) {
    if (key == "dtype") {
      AOQ_ASSIGN(const std::string name, json_string(json, key));
      c.dtype = dtype_from_name(name);
      if (!c.dtype) return error(ErrorId::recipe_invalid, "backend configuration: \"{}\" is no dtype", name);
    } else if (key == "quant_min_lower_bound") {
      AOQ_ASSIGN(c.quant_min_lower_bound, json_integer(json, key));
    } else if (key == "quant_max_upper_bound") {
      AOQ_ASSIGN(c.quant_max_upper_bound, json_integer(json, key));
    } else if (key == "scale_min_lower_bound") {
      AOQ_ASSIGN(c.scale_min_lower_bound, hex_of(json, key));
    } else if (key == "scale_exact_match") {
      AOQ_ASSIGN(c.scale_exact_match, hex_of(json, key));
    } else if (key == "zero_point_exact_match") {
      AOQ_ASSIGN(c.zero_point_exact_match, json_integer(json, key));
    } else {
      return unknown_key("a type", key);
    }
  }
  return c;
}

Result<DTypeConfig> dtypes_from_json(const Json& json) {
  if (!json.is_object())
    return error(ErrorId::recipe_invalid, "backend configuration: an entry of dtypes is no object");
  DTypeConfig c;
  for (const auto& [key, value] : json.items()) {
    if (key == "input") {
      AOQ_ASSIGN(c.input, constraint_from_json(value));
    } else if (key == "output") {
      AOQ_ASSIGN(c.output, constraint_from_json(value));
    } else if (key == "weight") {
      AOQ_ASSIGN(c.weight, constraint_from_json(value));
    } else if (key == "is_dynamic") {
      AOQ_ASSIGN(c.is_dynamic, json_bool(json, key));
    } else {
      return unknown_key("dtypes", key);
    }
  }
  return c;
}

Result<std::vector<Names>> names_from_json(const Json& json) {
  std::vector<Names> out;
  if (!json.is_array()) return error(ErrorId::recipe_invalid, "backend configuration: \"pattern\" is no list");
  for (const Json& entry : json) {
    Names names;
    if (!entry.is_array()) return error(ErrorId::recipe_invalid, "backend configuration: a pattern's entry is no list");
    for (const Json& name : entry) {
      if (!name.is_string())
        return error(ErrorId::recipe_invalid, "backend configuration: a pattern's name is no text");
      names.push_back(name.get<std::string>());
    }
    out.push_back(std::move(names));
  }
  if (out.empty()) return error(ErrorId::recipe_invalid, "backend configuration: an empty pattern");
  return out;
}

Result<BackendPattern> pattern_from_json(const Json& json) {
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "backend configuration: a pattern is no object");
  BackendPattern p;
  for (const auto& [key, value] : json.items()) {
    if (key == "pattern") {
      AOQ_ASSIGN(p.pattern, names_from_json(value));
    } else if (key == "observation") {
      AOQ_ASSIGN(const std::string name, json_string(json, key));
      const auto* found = std::find(std::begin(kObservations), std::end(kObservations), name);
      if (found == std::end(kObservations)) {
        return error(ErrorId::recipe_invalid, "backend configuration: observation is \"{}\", expected {}", name,
                     fmt::join(kObservations, ", "));
      }
      p.observation = static_cast<Observation>(found - std::begin(kObservations));
    } else if (key == "fused_module") {
      AOQ_ASSIGN(p.fused_module, json_string(json, key));
    } else if (key == "dtypes" && value.is_array()) {
      for (const Json& entry : value) {
        AOQ_ASSIGN(DTypeConfig config, dtypes_from_json(entry));
        p.dtypes.push_back(config);
      }
    } else {
      return unknown_key("a pattern", key);
    }
  }
  if (p.pattern.empty()) return error(ErrorId::recipe_invalid, "backend configuration: an entry without \"pattern\"");
  return p;
}

}  // namespace

Json backend_config_to_json(const BackendConfig& config) {
  Json patterns = Json::array();
  for (const BackendPattern& p : config.patterns) {
    Json dtypes = Json::array();
    for (const DTypeConfig& c : p.dtypes) {
      dtypes.push_back(Json{{"input", constraint_to_json(c.input)},
                            {"output", constraint_to_json(c.output)},
                            {"weight", constraint_to_json(c.weight)},
                            {"is_dynamic", c.is_dynamic}});
    }
    Json json{{"pattern", p.pattern},
              {"observation", std::string(kObservations[static_cast<std::size_t>(p.observation)])},
              {"dtypes", std::move(dtypes)}};
    if (!p.fused_module.empty()) json["fused_module"] = p.fused_module;
    patterns.push_back(std::move(json));
  }
  return Json{{"name", config.name}, {"patterns", std::move(patterns)}};
}

Result<BackendConfig> backend_config_from_json(const Json& json) {
  if (!json.is_object()) return error(ErrorId::recipe_invalid, "backend configuration: expected an object");
  BackendConfig config;
  for (const auto& [key, value] : json.items()) {
    if (key == "name") {
      AOQ_ASSIGN(config.name, json_string(json, key));
    } else if (key == "patterns" && value.is_array()) {
      for (const Json& entry : value) {
        AOQ_ASSIGN(BackendPattern p, pattern_from_json(entry));
        config.patterns.push_back(std::move(p));
      }
    } else {
      return unknown_key("the configuration", key);
    }
  }
  return config;
}

}  // namespace aoq::fx
