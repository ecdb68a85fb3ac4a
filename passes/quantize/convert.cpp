// convert: observers become quantize and dequantize stubs, weights become integer constants.
//
//   observe(x) {observer}    =>   dequantize(quantize(x) {scale, zero_point, dtype})
//   observe(x) {placeholder} =>   s, z = choose_qparams(x); dequantize(quantize(x, s, z), s, z)
//   conv(x, w) to be int8    =>   conv(x, dequantize(w_int8, w_scale) {axis 0}, b')
//   lstm(x, w, r) dynamic    =>   lstm(x, dequantize(w_int8, w_scale), dequantize(r_int8, r_scale))
//   lstm(x, w, r) static     =>   the same with the state's scale, or qlstm_static (static_recurrent.h)
//   gather(table, indices)   =>   gather(dequantize_rows(codes, scale, bias), indices)
//
// Before that the channels of activations are equalized, where the recipe says so (equalize.h).
//
// The graph still means float arithmetic; lowering makes it integer. b' corrects the mean error of each output channel
// that rounding the weights leaves: b' = b + sum over inputs of (w - dequantize(w_int8)) * mean(x).
#include <algorithm>
#include <cmath>

#include "ir/error_id.h"
#include "passes/fx/custom_module.h"
#include "passes/fx/workflow.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/check_recipe.h"
#include "passes/quantize/equalize.h"
#include "passes/quantize/recipe.h"
#include "passes/quantize/static_recurrent.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

// The scale and zero point of a range, as the observer's own kind of min-max would give them.
Result<QParams> qparams_of_range(const ObserverSpec& spec, std::pair<float, float> range) {
  ObserverSpec min_max = spec;
  min_max.kind = "min_max";
  AOQ_ASSIGN(std::unique_ptr<Observer> observer, make_observer(min_max));
  AOQ_TRY(observer->observe(float_tensor({2}, std::vector<float>{range.first, range.second}).view()));
  return observer->qparams();
}

// The scale is chosen in every run.
Status insert_dynamic_stubs(Graph& graph, Node* observe, const ObserverSpec& spec) {
  const bool is_symmetric = spec.qscheme == QScheme::per_tensor_symmetric;
  const bool per_token = spec.granularity.kind == Granularity::Kind::token;
  if (per_token && (!is_symmetric || spec.dtype != DType::i8)) {
    return error(ErrorId::recipe_invalid,
                 "activations that are quantized per token are i8 and per_tensor_symmetric, the recipe says {}",
                 dtype_name(spec.dtype));
  }
  const std::string granularity = per_token ? "token" : "tensor";
  Attributes choose{{"dtype", spec.dtype},
                    {"reduce_range", spec.reduce_range},
                    {"symmetric", is_symmetric},
                    {"granularity", granularity}};
  if (!is_symmetric) choose.set("formula", std::string("aten"));
  Value* x = observe->input(0);
  AOQ_ASSIGN(Node * q, graph.create(Op::choose_qparams, {x}, std::move(choose), observe));
  AOQ_ASSIGN(Node * quantize, graph.create(Op::quantize, {x, q->output(0), q->output(1)},
                                           {{"dtype", spec.dtype}, {"granularity", granularity}}, observe));
  AOQ_ASSIGN(Node * dequantize, graph.create(Op::dequantize, {quantize->output(), q->output(0), q->output(1)},
                                             {{"granularity", granularity}}, observe));
  for (Node* n : {q, quantize, dequantize}) {
    n->scope = observe->scope;
    n->origins = {observe->attributes().string("observer")};
  }
  replace_node(graph, observe, dequantize->output());
  return {};
}

// What a half precision recipe rounds: to f16 and back.
Status insert_half_stubs(Graph& graph, Node* observe) {
  AOQ_ASSIGN(Node * half, graph.create(Op::cast, {observe->input(0)}, {{"dtype", DType::f16}}, observe));
  AOQ_ASSIGN(Node * back, graph.create(Op::cast, {half->output()}, {{"dtype", DType::f32}}, observe));
  half->scope = back->scope = observe->scope;
  half->origins = back->origins = {observe->attributes().string("observer")};
  replace_node(graph, observe, back->output());
  return {};
}

Result<const Observer*> observer_of(const Ranges& ranges, const std::string& name) {
  const auto found = ranges.observers.find(name);
  if (found != ranges.observers.end()) return found->second.get();
  return error(ErrorId::ranges_mismatch,
               "no range for \"{}\": the ranges belong to another model or recipe; calibrate again", name);
}

Status insert_stubs(Graph& graph, Node* observe, const Ranges& ranges, const Equalization& equalization) {
  const std::string name = observe->attributes().string("observer");
  AOQ_ASSIGN(const ObserverSpec spec, parse_observer_spec(observe->attributes().string("spec")));
  if (is_dynamic(spec)) return insert_dynamic_stubs(graph, observe, spec);
  if (spec.kind == "placeholder" && spec.dtype == DType::f16) return insert_half_stubs(graph, observe);
  AOQ_ASSIGN(const Observer* observer, observer_of(ranges, name));
  auto range = equalization.ranges.find(name);
  Result<QParams> qparams =
      range == equalization.ranges.end() ? observer->qparams() : qparams_of_range(observer->spec(), range->second);
  if (!qparams.ok()) return std::move(qparams).status().with_context(fmt::format("observer \"{}\"", name));
  Status fits = check_activation_qparams(*qparams);
  if (!fits.ok()) return std::move(fits).with_context(fmt::format("observer \"{}\"", name));
  float scale = qparams->scale[0];
  if (!(scale > 0.0f) || !std::isfinite(scale)) {
    return error(Code::invalid_data, "observer \"{}\" gives the scale {}, expected a positive number", name, scale);
  }
  Attributes q{{"dtype", qparams->dtype},
               {"scale", static_cast<double>(scale)},
               {"zero_point", static_cast<std::int64_t>(qparams->zero_point[0])}};
  AOQ_ASSIGN(Node * quantize, graph.create(Op::quantize, {observe->input(0)}, std::move(q), observe));
  AOQ_ASSIGN(Node * dequantize, graph.create(Op::dequantize, {quantize->output()}, {}, observe));
  quantize->scope = dequantize->scope = observe->scope;
  quantize->origins = dequantize->origins = {name};
  replace_node(graph, observe, dequantize->output());
  return {};
}

// b' - b for every output channel.
std::vector<float> bias_correction(const Node& n, const IntegerWeight& w, const ChannelStatistics& mean) {
  const std::vector<std::int64_t>& shape = w.codes.shape();
  auto out_channels = static_cast<std::size_t>(shape[0]), in_channels = static_cast<std::size_t>(shape[1]);
  std::size_t spatial = w.error.size() / (out_channels * in_channels);
  std::size_t groups = n.is(Op::conv) ? static_cast<std::size_t>(n.attributes().integer("groups")) : 1;
  if (mean.count == 0 || mean.sum.size() != in_channels * groups) return {};
  std::vector<float> correction(out_channels);
  for (std::size_t o = 0; o < out_channels; ++o) {
    std::size_t first = o / (out_channels / groups) * in_channels;
    double sum = 0;
    for (std::size_t c = 0; c < in_channels; ++c) {
      double x = mean.sum[first + c] / static_cast<double>(mean.count);
      for (std::size_t k = 0; k < spatial; ++k) {
        sum += static_cast<double>(w.error[(o * in_channels + c) * spatial + k]) * x;
      }
    }
    correction[o] = static_cast<float>(sum);
  }
  return correction;
}

struct WeightLearnt {
  const ObserverSpec& spec;
  const Ranges& ranges;
};

Status convert_weight(Graph& graph, Node* n, const Recipe& recipe, const Equalization& equalization,
                      const WeightLearnt& learnt) {
  Value* weight = n->input(1);
  const Ranges& ranges = learnt.ranges;
  // An observer on the weight says where its stubs belong.
  Node* observe = weight->def()->is(Op::observe) ? weight->def() : nullptr;
  if (observe != nullptr) weight = observe->input(0);
  // Training watched the weights themselves; the folded one is the last that it sees, as in PyTorch.
  const auto trained =
      observe == nullptr ? ranges.observers.end() : ranges.observers.find(observe->attributes().string("observer"));
  auto quantized = [&]() -> Result<IntegerWeight> {
    if (trained == ranges.observers.end()) return quantize_weight(*constant_tensor(weight), learnt.spec);
    AOQ_ASSIGN(const std::unique_ptr<Observer> last, observer_from_json(observer_to_json(*trained->second)));
    AOQ_TRY(last->observe(constant_tensor(weight)->view()));
    AOQ_ASSIGN(const QParams q, last->qparams());
    return quantize_weight(*constant_tensor(weight), q);
  };
  AOQ_ASSIGN(const IntegerWeight w, quantized());
  std::string label = weight->def()->label();
  auto channels = static_cast<std::int64_t>(w.scale.size());
  Node* before = observe != nullptr ? observe : n;
  Value* codes = graph.constant(w.codes, before, label);
  codes->def()->scope = weight->def()->scope;
  codes->def()->origins = weight->def()->origins;
  Value* scale = graph.constant(float_tensor({channels}, w.scale), before, label + ".scale");
  Attributes axis{{"granularity", std::string(channels == 1 && w.codes.shape()[0] != 1 ? "tensor" : "axis")},
                  {"axis", std::int64_t{0}}};
  if (axis.string("granularity") == "tensor") {
    scale = graph.constant(float_tensor({}, w.scale), before, label + ".scale");
  }
  AOQ_ASSIGN(Node * dequantize, graph.create(Op::dequantize, {codes, scale}, std::move(axis), before));
  dequantize->scope = observe != nullptr ? observe->scope : n->scope;
  dequantize->origins = {label};
  graph.set_input(n, 1, dequantize->output());
  if (observe != nullptr && observe->output()->uses().empty()) graph.erase(observe);
  if (weight->uses().empty()) graph.erase(weight->def());

  auto mean = equalization.channels.find(channels_of_input(*n));
  if (!recipe.bias_correction || mean == equalization.channels.end()) return {};
  std::vector<float> bias = bias_correction(*n, w, mean->second);
  if (bias.empty()) return {};
  std::span<const float> old = float_constant(n->input(2));
  for (std::size_t c = 0; c < old.size(); ++c) bias[c] += old[c];
  std::string bias_label = n->input(2) != nullptr ? n->input(2)->def()->label() : n->label() + ".bias";
  graph.set_input(n, 2, graph.constant(float_tensor({static_cast<std::int64_t>(bias.size())}, bias), n, bias_label));
  return {};
}

bool is_dot(const Node& n) {
  return is_one_of(n, {Op::conv, Op::conv_transpose, Op::linear});
}

std::vector<std::size_t> weight_operands(const Node& n) {
  if (is_dot(n)) return {1};
  if (is_recurrent(n)) return {1, 2};
  if (is_one_of(n, {Op::gather, Op::embedding_bag})) return {0};
  return {};
}

// An observer of a constant that its reader turns into codes itself.
bool is_weight_observer(const Node& observe) {
  if (constant_tensor(observe.input(0)) == nullptr) return false;
  const std::vector<Use>& uses = observe.output()->uses();
  return std::any_of(uses.begin(), uses.end(), [](const Use& use) {
    const std::vector<std::size_t> weights = weight_operands(*use.user);
    return std::find(weights.begin(), weights.end(), static_cast<std::size_t>(use.operand)) != weights.end();
  });
}

// Inputs that come as codes get a dequantize: before anything else, as custom modules take the codes from there.
Status convert_inputs(Graph& graph, const CustomConfig& custom) {
  const std::vector<Node*> inputs = graph.input_nodes();
  for (const CustomConfig::QuantizedInput& q : custom.quantized_inputs) {
    const auto at = static_cast<std::size_t>(q.index);
    if (q.index < 0 || at >= inputs.size()) {
      return error(ErrorId::recipe_invalid, "quantized_inputs: {} is no input; the graph has {}", q.index,
                   inputs.size());
    }
    if (!(q.scale > 0)) {
      return error(ErrorId::recipe_invalid,
                   "quantized_inputs: input {} has no scale; only a standalone module's is known", q.index);
    }
    Value* x = inputs[at]->output();
    inputs[at]->set_attribute("dtype", DType::u8);
    AOQ_TRY(graph.infer(inputs[at]));
    Attributes scale{{"scale", q.scale}, {"zero_point", q.zero_point}};
    AOQ_ASSIGN(Node * dq, graph.create(Op::dequantize, {x}, std::move(scale), inputs[at]->next()));
    dq->scope = {"", "Observer", "input"};
    graph.metadata["quantized_input." + inputs[at]->attributes().string("name")] =
        fmt::format("{} {}", hex_float(q.scale), q.zero_point);
    graph.replace_uses_except(x, dq->output(), dq);
  }
  return {};
}

// Results that leave as codes lose their dequantize.
Status convert_outputs(Graph& graph, const CustomConfig& custom) {
  Node* output = graph.output_node();
  for (std::int64_t index : custom.quantized_outputs) {
    const auto k = static_cast<std::size_t>(index);
    if (index < 0 || k >= output->inputs().size() || !output->input(k)->def()->is(Op::dequantize)) {
      return error(ErrorId::recipe_invalid, "quantized_outputs: result {} is not made of codes", index);
    }
    Node* dq = output->input(k)->def();
    Value* codes = dq->input(0);
    if (const std::optional<Quantization>& q = codes->type().quantization; q && q->is_immediate) {
      graph.metadata["quantized_output." + std::to_string(index)] =
          fmt::format("{} {}", hex_float(static_cast<double>(q->scale)), q->zero_point);
    }
    graph.set_input(output, k, codes);
    if (dq->output()->uses().empty()) graph.erase(dq);
  }
  return {};
}

// What the observers on a node's weights say; none where there are none.
Result<std::optional<ObserverSpec>> observed_weights(const Node& n) {
  std::optional<ObserverSpec> spec;
  for (std::size_t k : weight_operands(n)) {
    const Value* v = n.input(k);
    if (v == nullptr || !v->def()->is(Op::observe) || constant_tensor(v->def()->input(0)) == nullptr) continue;
    AOQ_ASSIGN(spec, parse_observer_spec(v->def()->attributes().string("spec")));
  }
  return spec;
}

void take_weight_observers(Graph& graph, Node* n) {
  for (std::size_t k : weight_operands(*n)) {
    Node* observe = n->input(k) == nullptr ? nullptr : n->input(k)->def();
    if (observe == nullptr || !observe->is(Op::observe)) continue;
    graph.set_input(n, k, observe->input(0));
    if (observe->output()->uses().empty()) graph.erase(observe);
  }
}

// The form that prepare gave a node whose weights are observed: it asked the recipe and the backend.
WeightForm prepared_form(const Node& n, const ObserverSpec& spec) {
  if (spec.qscheme == QScheme::per_channel_affine_float_qparams) return WeightForm::rows;
  if (n.requested != kFloatArithmetic) return is_recurrent(n) ? WeightForm::dynamic_int8 : WeightForm::static_int8;
  return spec.kind == "placeholder" ? WeightForm::float16 : WeightForm::weight_only;
}

// The weights of a node that prepare asked for, by the form that its qconfig gives them.
Status convert_weights(Graph& graph, Node* n, const Recipe& recipe, const Equalization& equalization,
                       const Ranges& ranges) {
  const bool is_float = n->requested == kFloatArithmetic;
  if (!is_float && (n->requested.empty() || !n->reason.empty())) return {};
  AOQ_ASSIGN(const std::optional<ObserverSpec> observed, observed_weights(*n));
  if (!observed && (!recipe.backend.empty() || (!is_dot(*n) && !is_recurrent(*n) && !is_embedding(*n)))) return {};
  QConfigMatch match = match_qconfig(recipe, *n);
  if (match.qconfig == nullptr && !observed) {
    return error(Code::invalid_argument, "the recipe is not the one the graph was prepared with");
  }
  const ObserverSpec spec = observed ? *observed : match.qconfig->weight;
  const WeightForm form = observed ? prepared_form(*n, spec) : weight_form(*match.qconfig);
  if (is_dot(*n) && form != WeightForm::float16 && form != WeightForm::rows) {
    return convert_weight(graph, n, recipe, equalization, {spec, ranges});
  }
  take_weight_observers(graph, n);
  // FX's reference graph rounds what such a layer reads instead; lowering turns that into rounded weights.
  if (form == WeightForm::float16) return recipe.backend.empty() ? round_weights_to_f16(graph, n) : Status();
  if (is_recurrent(*n)) return quantize_recurrent_weights(graph, n, spec);
  return form == WeightForm::rows && is_embedding(*n) ? quantize_table(graph, n, spec) : Status();
}

Result<bool> run(Graph& graph, PassContext& context) {
  if (context.recipe == nullptr || context.ranges == nullptr)
    return error(Code::invalid_argument, "needs a recipe and ranges");
  if (graph.stage != Stage::prepared) {
    return error(Code::invalid_argument, "the graph is {}, expected prepared", stage_name(graph.stage));
  }
  AOQ_TRY(check_ranges(graph, *context.ranges));
  Equalization equalization{.ranges = {}, .channels = context.ranges->channels};
  if (context.recipe->equalization && !context.ranges->observers.empty()) {
    AOQ_ASSIGN(equalization, equalize(graph, *context.recipe, *context.ranges));
  }
  const fx::QParamsOf qparams_of = [&](const std::string& name) -> Result<QParams> {
    AOQ_ASSIGN(const Observer* observer, observer_of(*context.ranges, name));
    return observer->qparams();
  };
  AOQ_TRY(convert_inputs(graph, context.recipe->custom));
  for (Node* n = graph.first(); n != nullptr;) {
    if (fx::is_observed_custom_module(*context.recipe, *n)) {
      AOQ_ASSIGN(n, fx::quantize_custom_module(graph, n, *context.recipe, qparams_of));
    }
    if (is_observed_recurrent(*n)) {
      AOQ_ASSIGN(n, quantize_observed_recurrent(graph, n, qparams_of));
    }
    if (is_recurrent(*n)) AOQ_TRY(quantize_state(graph, n, qparams_of));
    Node* next = n->next();
    Status converted = convert_weights(graph, n, *context.recipe, equalization, *context.ranges);
    if (!converted.ok()) return std::move(converted).with_context(describe(*n));
    if (n->is(Op::observe) && !is_weight_observer(*n)) {
      AOQ_TRY(insert_stubs(graph, n, *context.ranges, equalization));
    }
    n = next;
  }
  AOQ_TRY(convert_outputs(graph, context.recipe->custom));
  if (context.recipe->backend == "qnnpack") AOQ_TRY(fx::round_biases(graph));
  graph.stage = Stage::quantized;
  return true;
}

}  // namespace

extern const PassDef kPass_convert;
const PassDef kPass_convert = {.name = "convert",
                               .summary = "Replaces observers by quantize and dequantize and makes weights integers.",
                               .kind = PassKind::stage,
                               .run = run};

}  // namespace aoq
