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
#include "passes/torchao/layer_rewrite.h"

namespace aoq::torchao {

namespace {

constexpr std::string_view kPattern = "re:", kDefault = "_default", kWeight = ".weight";

// What a rule is to a layer.
struct Rule {
  const std::optional<Config>* config = nullptr;  // null: no rule fits
  bool is_by_name = false;                        // the layer's own name, neither a pattern nor a default
};

// A layer of the graph and its names.
struct Layer {
  Node* node = nullptr;
  std::string module;
  std::string parameter;
  Rule rule;
  LinearSite site;
  std::unique_ptr<InputObserver> observer;

  bool is_embedding() const { return site.kind == LayerKind::embedding; }
};

std::string parameter_of(const Node& n, std::size_t operand) {
  const std::vector<std::string>& origins = n.input(operand)->def()->origins;
  return origins.empty() ? std::string() : origins.front();
}

std::string module_of(const Node& n, const std::string& parameter) {
  if (!n.scope.path.empty()) return n.scope.path;
  if (parameter.ends_with(kWeight)) return parameter.substr(0, parameter.size() - kWeight.size());
  return n.label();
}

// The weight of a linear layer; null for other nodes.
const Tensor* linear_weight(const Node& n) {
  const Tensor* weight = n.is(Op::linear) ? constant_tensor(n.input(1)) : nullptr;
  if (weight == nullptr) return nullptr;
  const DType dtype = weight->dtype();
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16 ? weight : nullptr;
}

// Linear layers and embeddings, in the order of the graph.
std::vector<Layer> layers_of(const Graph& graph) {
  std::vector<Layer> layers;
  for (Node* n : graph.nodes()) {
    const Tensor* weight = linear_weight(*n);
    const LayerKind kind = weight != nullptr ? LayerKind::linear : LayerKind::embedding;
    if (weight == nullptr) weight = embedding_table(*n);
    if (weight == nullptr) continue;
    const bool is_linear = kind == LayerKind::linear;
    Layer layer;
    layer.node = n;
    layer.parameter = parameter_of(*n, is_linear ? 1 : 0);
    layer.module = module_of(*n, layer.parameter);
    if (layer.parameter.empty()) layer.parameter = layer.module + std::string(kWeight);
    layer.site = {layer.module, weight->view(), is_linear ? constant_tensor(n->input(2)) : nullptr, kind};
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
      } else if (name == kEmbeddings) {
        out.embeddings_ = &config;
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

  Rule of(const Layer& layer) const {
    for (const std::string* name : {&layer.parameter, &layer.module}) {
      if (const auto it = names_.find(*name); it != names_.end()) return {it->second, true};
    }
    for (const std::string* name : {&layer.parameter, &layer.module}) {
      for (const auto& [pattern, config] : patterns_) {
        if (std::regex_match(*name, pattern)) return {config, false};
      }
    }
    return {layer.is_embedding() ? embeddings_ : default_, false};
  }

 private:
  std::map<std::string, const std::optional<Config>*, std::less<>> names_;
  std::vector<std::pair<std::regex, const std::optional<Config>*>> patterns_;
  const std::optional<Config>* default_ = nullptr;
  const std::optional<Config>* embeddings_ = nullptr;
};

Status check_rules_of(const std::vector<Layer>& layers, const ConfigRules& rules) {
  std::vector<std::string> known;
  for (const Layer& layer : layers) known.insert(known.end(), {layer.module, layer.parameter});
  for (const auto& [name, config] : rules) {
    if (name == kDefault || name == kEmbeddings || name.starts_with(kPattern)) continue;
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string nearest = nearest_name(name, known);
    return error(ErrorId::recipe_unmatched, "the model has no linear layer or embedding \"{}\"{}", name,
                 nearest.empty() ? std::string() : fmt::format("; did you mean {}?", nearest));
  }
  return {};
}

// The configuration that a layer is to have; null for none.
const Config* wanted(const Layer& layer) {
  return layer.rule.config != nullptr && layer.rule.config->has_value() ? &**layer.rule.config : nullptr;
}

constexpr const char* kLearnsFromInputs = "learns from a layer's inputs, which an embedding has not";

// Whether the inputs of a layer are to be seen by its configuration.
bool is_observed(const Layer& layer) {
  const Config* config = wanted(layer);
  return config != nullptr && !layer.is_embedding() && needs_data(*config);
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
    if (!is_observed(layer)) continue;
    const Config* config = wanted(layer);
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

// What a layer's configuration makes of its weight; the graph stays as it is.
struct LayerResult {
  LayerReport report;
  std::optional<QuantizedWeight> weight;
  const Value* codes = nullptr;  // in the graph, once the layer is rewritten
};

// Codes of a table; an embedding has no inputs to quantize or to scale.
Result<Quantized> quantize_table(const Config& config, const LinearSite& site) {
  if (needs_data(config)) return does_not_fit(fmt::format("{} {}", config.type, kLearnsFromInputs));
  AOQ_ASSIGN(Quantized quantized, quantize_weight(config, site, nullptr));
  if (!quantized.weight) return quantized;
  if (quantized.weight->codebook) return does_not_fit("a codebook is looked up as a whole, not row by row");
  if (!quantized.weight->pre_scale.empty()) return does_not_fit("an embedding has no inputs to scale");
  quantized.weight->activation.reset();
  return quantized;
}

Result<LayerResult> quantize_layer(const Layer& layer) {
  LayerResult result;
  LayerReport& report = result.report;
  report.module = layer.module;
  report.kind = layer.site.kind;
  const Config* config = wanted(layer);
  if (config == nullptr) {
    report.kept_because = layer.rule.config == nullptr ? "no configuration names it" : "its configuration is null";
    return result;
  }
  report.type = config->type;
  AOQ_ASSIGN(Quantized quantized, layer.is_embedding() ? quantize_table(*config, layer.site)
                                                       : quantize_weight(*config, layer.site, layer.observer.get()));
  if (!quantized.weight && quantized.is_error_when_named && layer.rule.is_by_name) {
    return error(Code::invalid_argument, "{}: {}", config->type, quantized.kept_because);
  }
  report.kept_because = std::move(quantized.kept_because);
  if (!quantized.weight) return result;
  report.relative_error = relative_error(layer.site.weight, *quantized.weight);
  result.weight = std::move(*quantized.weight);
  return result;
}

Status rewrite_layer(Graph& graph, const Layer& layer, LayerResult& result, NarrowConstants& constants) {
  LayerReport& report = result.report;
  if (!result.weight) {
    if (report.type.empty()) return {};
    layer.node->requested = report.type;
    layer.node->reason = report.kept_because;
    return {};
  }
  const auto rewrite = layer.is_embedding() ? rewrite_embedding : rewrite_linear;
  AOQ_ASSIGN(const RewrittenLayer rewritten, rewrite(graph, layer.node, *result.weight, constants));
  report.bits_per_weight = rewritten.bits_per_weight;
  result.codes = rewritten.codes;
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
  std::erase_if(layers, [&](const Layer& l) { return options.filter && !options.filter(l.module, *l.node); });
  for (Layer& layer : layers) layer.rule = by_name.of(layer);
  std::erase_if(layers, [](const Layer& l) { return l.is_embedding() && l.rule.config == nullptr; });
  AOQ_TRY(observe(graph, layers, options));
  // All weights first: when one fails the graph is as it was.
  std::vector<LayerResult> results;
  for (Layer& layer : layers) {
    Result<LayerResult> result = quantize_layer(layer);
    if (!result.ok()) return with_layer(std::move(result).status(), layer);
    results.push_back(std::move(*result));
    layer.observer.reset();
  }
  std::vector<const Value*> weights;
  NarrowConstants constants;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    weights.push_back(layers[i].node->input(layers[i].is_embedding() ? 0 : 1));
    Status rewritten = rewrite_layer(graph, layers[i], results[i], constants);
    if (!rewritten.ok()) return with_layer(std::move(rewritten), layers[i]);
  }
  // What reads the float weights now are other ops, and layers that were left alone.
  std::vector<LayerReport> reports;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    LayerReport& report = results[i].report;
    report.shares_codes = results[i].codes != nullptr && results[i].codes->uses().size() > 1;
    report.float_weight_stays = results[i].codes != nullptr && !weights[i]->uses().empty();
    reports.push_back(std::move(report));
  }
  return reports;
}

Result<std::vector<LayerReport>> quantize(Graph& graph, const Config& config, const ModelOptions& options) {
  return quantize(graph, ConfigRules{{std::string(kDefault), config}}, options);
}

namespace {

std::string line_of(const LayerReport& l) {
  if (!l.kept_because.empty()) return fmt::format("{}  float32: {}", l.module, l.kept_because);
  std::string line = fmt::format("{}  {}  {:.2f} bits a weight, relative error {:.4f}", l.module, l.type,
                                 l.bits_per_weight, l.relative_error);
  if (l.shares_codes) line += ", shared with another layer";
  if (l.float_weight_stays) line += ", kept in float as well for what else reads it";
  return line;
}

std::string sum_of(const std::vector<LayerReport>& layers, LayerKind kind, const char* plural) {
  std::size_t count = 0, quantized = 0;
  for (const LayerReport& l : layers) {
    count += l.kind == kind ? 1 : 0;
    quantized += l.kind == kind && l.kept_because.empty() ? 1 : 0;
  }
  if (count == 0 && kind == LayerKind::embedding) return {};
  return fmt::format("{} of {} {} are quantized\n", quantized, count, plural);
}

}  // namespace

std::string print_report(const std::vector<LayerReport>& layers) {
  std::string out;
  for (const LayerReport& l : layers) out += line_of(l) + "\n";
  return out + sum_of(layers, LayerKind::linear, "linear layers") + sum_of(layers, LayerKind::embedding, "embeddings");
}

}  // namespace aoq::torchao
