#include "passes/torchao/quantize_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <unordered_map>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/interpreter.h"
#include "ir/nearest_name.h"
#include "passes/quantize/arithmetic.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq::torchao {

namespace {

constexpr std::string_view kPattern = "re:", kDefault = "_default", kWeight = ".weight";

// A linear layer of the graph and its names.
struct Layer {
  Node* node = nullptr;
  std::string module;
  std::string parameter;
  const std::optional<Config>* rule = nullptr;  // null: no rule fits
  LinearSite site;
  std::unique_ptr<InputObserver> observer;
};

std::string parameter_of(const Node& n) {
  const std::vector<std::string>& origins = n.input(1)->def()->origins;
  return origins.empty() ? std::string() : origins.front();
}

std::string module_of(const Node& n, const std::string& parameter) {
  if (!n.scope.path.empty()) return n.scope.path;
  if (parameter.ends_with(kWeight)) return parameter.substr(0, parameter.size() - kWeight.size());
  return n.label();
}

std::vector<Layer> layers_of(const Graph& graph) {
  std::vector<Layer> layers;
  for (Node* n : graph.nodes()) {
    if (!n->is(Op::linear)) continue;
    const Tensor* weight = constant_tensor(n->input(1));
    const bool fits = weight != nullptr && (weight->dtype() == DType::f32 || weight->dtype() == DType::bf16 ||
                                            weight->dtype() == DType::f16);
    if (!fits) continue;
    Layer layer;
    layer.node = n;
    layer.parameter = parameter_of(*n);
    layer.module = module_of(*n, layer.parameter);
    if (layer.parameter.empty()) layer.parameter = layer.module + std::string(kWeight);
    layer.site = {layer.module, weight->view(), constant_tensor(n->input(2))};
    layers.push_back(std::move(layer));
  }
  return layers;
}

class Rules {
 public:
  static Result<Rules> make(const ConfigRules& rules) {
    Rules out;
    for (const auto& [name, config] : rules) {
      if (name == kDefault) {
        out.default_ = &config;
      } else if (name.starts_with(kPattern)) {
        try {
          out.patterns_.emplace_back(std::regex(name.substr(kPattern.size())), &config);
        } catch (const std::regex_error& e) {
          return error(ErrorId::recipe_invalid, "\"{}\" is no regular expression: {}", name, e.what());
        }
      } else {
        out.names_[name] = &config;
      }
    }
    return out;
  }

  // The rule of a layer; null when none fits.
  const std::optional<Config>* of(const Layer& layer) const {
    for (const std::string* name : {&layer.parameter, &layer.module}) {
      if (const auto it = names_.find(*name); it != names_.end()) return it->second;
    }
    for (const std::string* name : {&layer.parameter, &layer.module}) {
      for (const auto& [pattern, config] : patterns_) {
        if (std::regex_match(*name, pattern)) return config;
      }
    }
    return default_;
  }

 private:
  std::map<std::string, const std::optional<Config>*, std::less<>> names_;
  std::vector<std::pair<std::regex, const std::optional<Config>*>> patterns_;
  const std::optional<Config>* default_ = nullptr;
};

Status check_rules_of(const std::vector<Layer>& layers, const ConfigRules& rules) {
  std::vector<std::string> known;
  for (const Layer& layer : layers) known.insert(known.end(), {layer.module, layer.parameter});
  for (const auto& [name, config] : rules) {
    if (name == kDefault || name.starts_with(kPattern)) continue;
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string nearest = nearest_name(name, known);
    return error(ErrorId::recipe_unmatched, "the model has no linear layer \"{}\"{}", name,
                 nearest.empty() ? std::string() : fmt::format("; did you mean {}?", nearest));
  }
  return {};
}

// The configuration that a layer is to have; null for none.
const Config* wanted(const Layer& layer) {
  return layer.rule != nullptr && layer.rule->has_value() ? &**layer.rule : nullptr;
}

Status with_layer(Status status, const Layer& layer) {
  return std::move(status).with_context(fmt::format("layer \"{}\"", layer.module));
}

// Runs the float graph over the data and shows every observer its layer's inputs.
class Observation {
 public:
  explicit Observation(const Graph& graph) : graph_(graph) {}

  void add(Layer& layer) { watches_[layer.node->input(0)].push_back(&layer); }

  Status run(Executor& executor, CalibrationData& data) {
    Tap tap;
    for (const auto& [value, layers] : watches_) {
      if (!value->def()->is(Op::input)) tap.values.push_back(value);
    }
    tap.callback = [this](const Value& v, TensorView view) { return see(&v, view); };
    AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph_));
    std::vector<Tensor> batch;
    std::int64_t runs = 0;
    for (;; ++runs) {
      AOQ_ASSIGN(const bool more, data.next(batch));
      if (!more) break;
      AOQ_TRY(see_inputs(batch));
      AOQ_TRY(executable->run(batch, tap).status());
    }
    if (runs == 0) return error(Code::invalid_data, "the calibration data has no samples");
    return {};
  }

 private:
  // A graph's own inputs are made by no op.
  Status see_inputs(const std::vector<Tensor>& batch) {
    const std::vector<Node*> inputs = graph_.input_nodes();
    for (std::size_t i = 0; i < inputs.size() && i < batch.size(); ++i)
      AOQ_TRY(see(inputs[i]->output(), batch[i].view()));
    return {};
  }

  Status see(const Value* v, TensorView view) {
    const auto found = watches_.find(v);
    if (found == watches_.end()) return {};
    for (Layer* layer : found->second) {
      Status status = layer->observer->observe(view);
      if (!status.ok()) return with_layer(std::move(status), *layer);
    }
    return {};
  }

  const Graph& graph_;
  std::unordered_map<const Value*, std::vector<Layer*>> watches_;
};

Status observe(const Graph& graph, std::vector<Layer>& layers, const ModelOptions& options) {
  Observation observation(graph);
  bool is_needed = false;
  for (Layer& layer : layers) {
    const Config* config = wanted(layer);
    if (config == nullptr || !needs_data(*config)) continue;
    Result<std::unique_ptr<InputObserver>> observer = observe_inputs(*config, layer.site);
    if (!observer.ok()) return with_layer(std::move(observer).status(), layer);
    layer.observer = std::move(*observer);
    if (layer.observer == nullptr) continue;
    if (options.data == nullptr) {
      return with_layer(error(Code::invalid_argument, "{} learns from data: give calibration data", config->type),
                        layer);
    }
    observation.add(layer);
    is_needed = true;
  }
  if (!is_needed) return {};
  ReferenceExecutor reference;
  return observation.run(options.executor != nullptr ? *options.executor : reference, *options.data);
}

// ---- the graph

// Codes of blocks with one scale for each row and group of K, as the ops read them.
struct Parameters {
  Tensor scale;                      // [N, groups] in f32, or what is narrower and exact
  std::optional<Tensor> zero_point;  // integers or floats [N, groups]; absent where all are the codes' own zero
  std::int64_t group = 1;
};

// The numbers in the narrowest of the types that holds every one of them exactly; f32 if none does.
Result<Tensor> narrowest(const std::vector<std::int64_t>& shape, const std::vector<float>& values,
                         std::initializer_list<DType> types) {
  for (DType dtype : types) {
    AOQ_ASSIGN(Tensor narrow, Tensor::make(dtype, shape));
    std::vector<float> back(values.size());
    dtype_info(dtype).from_float(values, narrow.mutable_bytes().data(), 0);
    dtype_info(dtype).to_float(narrow.bytes().data(), 0, back);
    if (back == values) return narrow;
  }
  return rewrite::float_tensor(shape, values);
}

Result<Parameters> parameters_of(const QuantizedWeight& weight) {
  const std::int64_t rows = weight.codes.shape()[0], depth = weight.codes.shape()[1];
  const std::vector<std::int64_t> given = weight.parameter_shape();
  Parameters out;
  out.group = weight.block_size[1];
  const std::int64_t groups = depth / out.group, rows_per_scale = rows / given[0];
  const auto spread = [&](const auto& values, auto* to) {
    for (std::int64_t n = 0; n < rows; ++n) {
      for (std::int64_t g = 0; g < groups; ++g) {
        to->push_back(values[static_cast<std::size_t>(n / rows_per_scale * groups + g)]);
      }
    }
  };
  const std::vector<std::int64_t> shape{rows, groups};
  std::vector<float> scale;
  spread(weight.qparams.scale, &scale);
  AOQ_ASSIGN(out.scale, narrowest(shape, scale, {DType::f8_e8m0, weight.dtype}));
  if (is_float(weight.codes.dtype())) return out;
  if (!weight.qparams.float_zero_point.empty()) {
    std::vector<float> zeros;
    spread(weight.qparams.float_zero_point, &zeros);
    AOQ_ASSIGN(out.zero_point, narrowest(shape, zeros, {weight.dtype}));
    return out;
  }
  const DType dtype = weight.codes.dtype();
  const std::int64_t own_zero = is_signed_integer(dtype) ? 0 : std::int64_t{1} << (dtype_info(dtype).bits - 1);
  std::vector<std::int64_t> zeros;
  spread(weight.qparams.zero_point, &zeros);
  if (std::ranges::all_of(zeros, [&](std::int64_t z) { return z == own_zero; })) return out;
  const DType zero_dtype = is_signed_integer(dtype) ? DType::i8 : DType::u8;
  AOQ_ASSIGN(out.zero_point, Tensor::make(zero_dtype, shape));
  for (std::size_t i = 0; i < zeros.size(); ++i) {
    store_integer(zero_dtype, out.zero_point->mutable_bytes().data(), static_cast<std::int64_t>(i), zeros[i]);
  }
  return out;
}

class LayerRewrite {
 public:
  LayerRewrite(Graph& graph, Node* linear) : graph_(graph), linear_(linear) {}

  // Gives the op that reads the weight.
  Result<const Node*> run(const QuantizedWeight& weight) {
    if (weight.codebook) return run_codebook(weight);
    AOQ_ASSIGN(const Parameters parameters, parameters_of(weight));
    AOQ_ASSIGN(Value * x, cast(linear_->input(0), DType::f32));
    if (!weight.pre_scale.empty()) {
      Value* factors = constant(rewrite::float_tensor({weight.inputs()}, weight.pre_scale), ".pre_scale");
      AOQ_ASSIGN(Node * scaled, rewrite::node_beside(graph_, *linear_, Op::mul, {x, factors}, linear_));
      x = scaled->output();
    }
    std::vector<Value*> inputs{x, constant(weight.codes, ""), constant(parameters.scale, ".scale"),
                               parameters.zero_point ? constant(*parameters.zero_point, ".zero_point") : nullptr,
                               nullptr};
    AOQ_ASSIGN(inputs[4], cast(linear_->input(2), DType::f32));
    Attributes attributes{{"group", parameters.group}};
    const bool is_float8 = weight.activation && is_float(weight.activation->dtype);
    if (is_float8) {
      AOQ_ASSIGN(inputs[0], through_float8(*weight.activation, x));
    } else if (weight.activation)
      AOQ_TRY(add_activation(*weight.activation, inputs, attributes));
    const Op op = weight.activation && !is_float8 ? Op::linear_dynamic : Op::linear_weight_only;
    AOQ_ASSIGN(Node * made, graph_.create_like(*linear_, op, std::move(inputs), std::move(attributes), linear_));
    made->requested = requested_name(weight);
    if (op == Op::linear_weight_only) made->reason = "its weight is narrow, its arithmetic is float";
    Node* last = made;
    AOQ_ASSIGN(Value * y, cast(made->output(), linear_->output()->type().dtype));
    last = y->def();
    if (linear_->input(3) != nullptr) {
      AOQ_ASSIGN(last, rewrite::node_beside(graph_, *linear_, Op::add, {last->output(), linear_->input(3)}, linear_));
    }
    AOQ_ASSIGN(last, rewrite::split_activation(graph_, *linear_, last, linear_));
    graph_.replace_uses(linear_->output(), last->output());
    graph_.erase(linear_);
    return made;
  }

 private:
  Value* constant(const Tensor& tensor, const char* suffix) {
    const std::string origin = parameter_of(*linear_);
    Value* v = graph_.constant(tensor, linear_, origin.empty() ? origin : origin + suffix);
    v->def()->scope = linear_->scope;
    return v;
  }

  // The layer stays a float one: its weight is looked up when the model is loaded.
  Result<const Node*> run_codebook(const QuantizedWeight& weight) {
    const Codebook& codebook = *weight.codebook;
    std::vector<Value*> inputs{constant(weight.codes, ""), constant(codebook.entries, ".codebook"),
                               constant(codebook.scales, ".scale")};
    AOQ_ASSIGN(Node * looked_up, graph_.create_like(*linear_, Op::dequantize_codebook, std::move(inputs), {}, linear_));
    looked_up->requested.clear();
    AOQ_ASSIGN(Value * w, cast(looked_up->output(), linear_->input(1)->type().dtype));
    graph_.set_input(linear_, 1, w);
    linear_->reason = "its weight is looked up in a codebook when the model is loaded";
    return looked_up;
  }

  Result<Value*> through_float8(const ActivationQuantization& activation, Value* x) {
    Attributes attributes{{"dtype", activation.dtype}};
    const Granularity& g = activation.granularity;
    if (g.kind == Granularity::Kind::group) {
      attributes.set("granularity", std::string("group"));
      attributes.set("group", g.value);
    } else if (g.kind != Granularity::Kind::tensor) {
      attributes.set("granularity", std::string("token"));
    }
    if (activation.amax_min) attributes.set("amax_min", static_cast<double>(*activation.amax_min));
    if (activation.amax_max) attributes.set("amax_max", static_cast<double>(*activation.amax_max));
    std::vector<Value*> inputs{x};
    if (activation.fixed) {
      const float scale = static_cast<float>(activation.fixed->scale);
      inputs.push_back(constant(rewrite::float_tensor({1}, {&scale, 1}), ".x_scale"));
    }
    AOQ_ASSIGN(Node * made, rewrite::node_beside(graph_, *linear_, Op::fake_quantize, std::move(inputs), linear_,
                                                 std::move(attributes)));
    return made->output();
  }

  Status add_activation(const ActivationQuantization& activation, std::vector<Value*>& inputs, Attributes& attributes) {
    attributes.set("symmetric", activation.mapping != MappingType::asymmetric);
    if (!activation.fixed) {
      if (activation.granularity.kind != Granularity::Kind::tensor) return {};
      return error(Code::unsupported, "a scale for the whole input, chosen in every run: use PerRow, or a static one");
    }
    AOQ_ASSIGN(Tensor scale, Tensor::make(DType::f32, {1}));
    scale.mutable_as<float>()[0] = static_cast<float>(activation.fixed->scale);
    inputs.push_back(constant(scale, ".x_scale"));
    // The op's codes are i8: u8 codes less 128.
    const std::int64_t shift = activation.dtype == DType::u8 ? 128 : 0;
    if (activation.fixed->zero_point == shift) return {};
    AOQ_ASSIGN(Tensor zero_point, Tensor::make(DType::i32, {1}));
    zero_point.mutable_as<std::int32_t>()[0] = static_cast<std::int32_t>(activation.fixed->zero_point - shift);
    inputs.push_back(constant(zero_point, ".x_zero_point"));
    return {};
  }

  // The value in another dtype; itself where it has it, or is absent.
  Result<Value*> cast(Value* v, DType dtype) {
    if (v == nullptr || v->type().dtype == dtype) return v;
    AOQ_ASSIGN(Node * made, rewrite::node_beside(graph_, *linear_, Op::cast, {v}, linear_, {{"dtype", dtype}}));
    return made->output();
  }

  static std::string requested_name(const QuantizedWeight& weight) {
    const DTypeInfo& info = dtype_info(weight.codes.dtype());
    if (info.kind == DTypeKind::floating) return std::string(info.name);
    return fmt::format("int{}", info.bits);
  }

  Graph& graph_;
  Node* linear_;
};

double relative_error(TensorView w, const QuantizedWeight& quantized) {
  const Result<Tensor> back = dequantize(quantized);
  const Result<std::vector<float>> exact = to_floats(w);
  if (!back.ok() || !exact.ok()) return NAN;
  const Result<std::vector<float>> rounded = to_floats(back->view());
  double error = 0, norm = 0;
  const std::size_t depth = static_cast<std::size_t>(w.shape[1]);
  for (std::size_t i = 0; i < exact->size(); ++i) {
    const double scale = quantized.pre_scale.empty() ? 1.0 : static_cast<double>(quantized.pre_scale[i % depth]);
    const double d = static_cast<double>((*exact)[i]) - static_cast<double>((*rounded)[i]) * scale;
    error += d * d;
    norm += static_cast<double>((*exact)[i]) * static_cast<double>((*exact)[i]);
  }
  return norm == 0 ? 0 : std::sqrt(error / norm);
}

std::int64_t bits_of(const Value* v) {
  const Tensor* t = v == nullptr ? nullptr : constant_tensor(v);
  return t == nullptr ? 0 : static_cast<std::int64_t>(t->bytes().size()) * 8;
}

// What the weight of a layer takes: the operands, but the bias, of the op that reads it.
double bits_per_weight(const Node& reader, const QuantizedWeight& w) {
  constexpr std::size_t kBias = 4;
  std::int64_t bits = 0;
  for (std::size_t i = 0; i < reader.inputs().size(); ++i) bits += i == kBias ? 0 : bits_of(reader.input(i));
  return static_cast<double>(bits) / static_cast<double>(w.inputs() * w.outputs());
}

// What a layer's configuration makes of its weight; the graph stays as it is.
struct LayerResult {
  LayerReport report;
  std::optional<QuantizedWeight> weight;
};

Result<LayerResult> quantize_layer(const Layer& layer) {
  LayerResult result;
  LayerReport& report = result.report;
  report.module = layer.module;
  const Config* config = wanted(layer);
  if (config == nullptr) {
    report.kept_because = layer.rule == nullptr ? "no configuration names it" : "its configuration is null";
    return result;
  }
  report.type = config->type;
  AOQ_ASSIGN(Quantized quantized, quantize_weight(*config, layer.site, layer.observer.get()));
  report.kept_because = std::move(quantized.kept_because);
  if (!quantized.weight) return result;
  report.relative_error = relative_error(layer.site.weight, *quantized.weight);
  result.weight = std::move(*quantized.weight);
  return result;
}

Status rewrite_layer(Graph& graph, const Layer& layer, LayerResult& result) {
  LayerReport& report = result.report;
  if (!result.weight) {
    if (report.type.empty()) return {};
    layer.node->requested = report.type;
    layer.node->reason = report.kept_because;
    return {};
  }
  AOQ_ASSIGN(const Node* reader, LayerRewrite(graph, layer.node).run(*result.weight));
  report.bits_per_weight = bits_per_weight(*reader, *result.weight);
  result.weight.reset();
  return {};
}

}  // namespace

Status check_rules(const Graph& graph, const ConfigRules& rules) {
  AOQ_TRY(Rules::make(rules).status());
  return check_rules_of(layers_of(graph), rules);
}

Result<std::vector<LayerReport>> quantize(Graph& graph, const ConfigRules& rules, const ModelOptions& options) {
  if (graph.stage != Stage::traced) {
    return error(Code::invalid_argument, "the graph is {}, expected traced", stage_name(graph.stage));
  }
  AOQ_ASSIGN(const Rules by_name, Rules::make(rules));
  std::vector<Layer> layers = layers_of(graph);
  AOQ_TRY(check_rules_of(layers, rules));
  std::vector<LayerReport> reports;
  std::erase_if(layers, [&](const Layer& l) { return options.filter && !options.filter(l.module, *l.node); });
  for (Layer& layer : layers) layer.rule = by_name.of(layer);
  AOQ_TRY(observe(graph, layers, options));
  // All weights first: when one fails the graph is as it was.
  std::vector<LayerResult> results;
  for (Layer& layer : layers) {
    Result<LayerResult> result = quantize_layer(layer);
    if (!result.ok()) return with_layer(std::move(result).status(), layer);
    results.push_back(std::move(*result));
    layer.observer.reset();
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Status rewritten = rewrite_layer(graph, layers[i], results[i]);
    if (!rewritten.ok()) return with_layer(std::move(rewritten), layers[i]);
    reports.push_back(std::move(results[i].report));
  }
  return reports;
}

Result<std::vector<LayerReport>> quantize(Graph& graph, const Config& config, const ModelOptions& options) {
  return quantize(graph, ConfigRules{{std::string(kDefault), config}}, options);
}

std::string print_report(const std::vector<LayerReport>& layers) {
  std::string out;
  std::size_t quantized = 0;
  for (const LayerReport& l : layers) {
    if (!l.kept_because.empty()) {
      out += fmt::format("{}  float32: {}\n", l.module, l.kept_because);
      continue;
    }
    ++quantized;
    out += fmt::format("{}  {}  {:.2f} bits a weight, relative error {:.4f}\n", l.module, l.type, l.bits_per_weight,
                       l.relative_error);
  }
  return out + fmt::format("{} of {} linear layers are quantized\n", quantized, layers.size());
}

}  // namespace aoq::torchao
