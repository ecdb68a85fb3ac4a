#include "passes/quantize/check_recipe.h"

#include <algorithm>
#include <functional>
#include <regex>
#include <set>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/nearest_name.h"
#include "passes/fx/standalone.h"
#include "passes/quantize/static_recurrent.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

Status unsupported(std::string_view what, const ObserverSpec& spec, std::string_view expected) {
  return error(ErrorId::qconfig_unsupported, "{} {} with {}: expected {}", spec.kind, what, dtype_name(spec.dtype),
               expected);
}

bool holds_codes(DType d) {
  return is_integer(d) && dtype_info(d).bits <= 16;
}

bool is_symmetric(QScheme s) {
  return s == QScheme::per_tensor_symmetric || s == QScheme::per_channel_symmetric;
}

Status check_dynamic_activation(const ObserverSpec& spec) {
  if (spec.dtype != DType::u8 && spec.dtype != DType::i8) {
    return unsupported("asks for a dynamic activation", spec, "u8 or i8 codes");
  }
  if (spec.granularity.kind == Granularity::Kind::token) {
    if (spec.qscheme == QScheme::per_tensor_symmetric && spec.dtype == DType::i8) return {};
    return unsupported("asks for an activation per token", spec, "i8 and per_tensor_symmetric");
  }
  const DTypeInfo& info = dtype_info(spec.dtype);
  const bool is_whole = static_cast<double>(spec.quant_min.value_or(static_cast<std::int64_t>(info.min))) == info.min &&
                        static_cast<double>(spec.quant_max.value_or(static_cast<std::int64_t>(info.max))) == info.max;
  return is_whole ? Status() : unsupported("has a quant_min or quant_max", spec, "the whole range, or reduce_range");
}

Status check_activation(const ObserverSpec& spec) {
  if (spec.kind == "reuse_input" || spec.kind == "recording") return {};
  if (is_per_channel(spec.qscheme)) {
    return unsupported("asks for an activation per channel", spec,
                       "one scale for all of it: per_tensor_affine or "
                       "per_tensor_symmetric");
  }
  if (is_dynamic(spec)) return check_dynamic_activation(spec);
  if (spec.kind == "placeholder") return {};
  if (spec.kind == "noop") {
    return unsupported("gives an activation no scale", spec, "another observer, or null for a module in float");
  }
  const bool is_affine_kind = spec.kind.starts_with("affine_");
  if (is_affine_kind && spec.granularity.kind != Granularity::Kind::tensor) {
    return unsupported("asks for an activation " + to_string(spec.granularity), spec, "granularity PerTensor");
  }
  return holds_codes(spec.dtype) ? Status()
                                 : unsupported("asks for an activation", spec, "integers of at most 16 bits, as u8");
}

Status check_row_weight(const ObserverSpec& spec) {
  const bool fits = (spec.dtype == DType::u8 || spec.dtype == DType::u4) && spec.ch_axis == 0;
  return fits ? Status() : unsupported("asks for a table", spec, "u8 or u4 codes and ch_axis 0");
}

Status check_weight_granularity(const ObserverSpec& spec, std::int64_t rank) {
  if (!spec.kind.starts_with("affine_")) {
    const bool is_first = spec.ch_axis == 0 || spec.ch_axis == -rank;
    if (!is_per_channel(spec.qscheme) || is_first) return {};
    return unsupported(fmt::format("asks for a weight with scales along axis {}", spec.ch_axis), spec,
                       "axis 0, the output channels");
  }
  const Granularity& g = spec.granularity;
  const bool fits = g.kind == Granularity::Kind::tensor || (g.kind == Granularity::Kind::axis && g.value == 0) ||
                    (g.kind == Granularity::Kind::row && rank == 2);
  return fits ? Status() : unsupported("asks for a weight " + to_string(g), spec, "PerTensor or PerAxis(0)");
}

Status check_weight(const QConfig& config, std::int64_t rank) {
  const ObserverSpec& spec = config.weight;
  const WeightForm form = weight_form(config);
  if (form == WeightForm::float16) return {};
  if (form == WeightForm::rows) return check_row_weight(spec);
  for (const char* kind : {"placeholder", "noop", "reuse_input", "recording"}) {
    if (spec.kind == kind)
      return unsupported("gives a weight no scale", spec, "an observer such as per_channel_min_max");
  }
  const bool is_affine_kind = spec.kind.starts_with("affine_");
  const bool is_even = is_affine_kind ? spec.mapping != MappingType::asymmetric : is_symmetric(spec.qscheme);
  const bool fits = (spec.dtype == DType::i8 || spec.dtype == DType::i4) && is_even;
  if (!fits) return unsupported("asks for a weight", spec, "symmetric i8 codes");
  const bool is_narrow = spec.quant_min.value_or(-128) >= -128 && spec.quant_max.value_or(127) <= 127;
  if (!is_narrow) return unsupported("has a quant_min or quant_max", spec, "codes from -128 to 127");
  return check_weight_granularity(spec, rank);
}

Status check_observers(const QConfig& config) {
  for (const auto& [name, spec] : {std::pair("activation", &config.activation), std::pair("weight", &config.weight)}) {
    Status made = make_observer(*spec).status();
    if (!made.ok()) return std::move(made).with_context(name);
  }
  return {};
}

// What is inside recurrent ops: floats or bytes.
Status check_inner(const QConfig& config) {
  if (!config.inner) return {};
  const ObserverSpec& spec = *config.inner;
  AOQ_TRY(make_observer(spec).status());
  if (spec.kind == "placeholder" && spec.dtype == DType::f32) return {};
  const bool is_affine = spec.qscheme == QScheme::per_tensor_affine || spec.qscheme == QScheme::per_tensor_symmetric;
  const bool has_scale = spec.kind != "placeholder" && spec.kind != "noop" && spec.kind != "reuse_input";
  if (spec.dtype == DType::u8 && is_affine && has_scale) return {};
  return unsupported("is asked for inside recurrent ops", spec, "u8 per tensor, or a placeholder of float32");
}

Status check_rule(const std::string& name, const std::optional<QConfig>& config, bool is_fx) {
  if (!config) return {};
  Status status = check_observers(*config);
  if (status.ok() && !is_fx) {
    status = check_activation(config->activation);
    if (!status.ok()) status = std::move(status).with_context("activation");
  }
  if (status.ok()) {
    status = check_inner(*config);
    if (!status.ok()) status = std::move(status).with_context("inner");
  }
  return status.ok() ? Status() : std::move(status).with_context("recipe: " + name);
}

// ---- names

// What rules can name.
struct Names {
  std::set<std::string> modules;  // with their ancestors
  std::set<std::string> types;    // ops and classes
  std::set<std::string> callees;  // functions
  std::set<std::string> nodes;

  explicit Names(const Graph& graph) {
    for (const Node* n : graph.nodes()) {
      if (n->is(Op::input) || n->is(Op::output)) continue;
      add_module(n->scope.path);
      nodes.insert(n->origins.begin(), n->origins.end());
      if (!n->scope.type.empty()) types.insert(n->scope.type);
      if (!n->scope.callee.empty()) callees.insert(n->scope.callee);
      if (!n->def().has_trait(kStructural)) types.insert(std::string(n->def().name));
    }
  }

  void add_module(const std::string& path) {
    modules.insert(path);
    for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
      modules.insert(path.substr(0, dot));
    }
  }
};

std::string suggestion(const std::string& name, std::initializer_list<const std::set<std::string>*> sets) {
  std::vector<std::string> known;
  for (const std::set<std::string>* s : sets) {
    std::copy_if(s->begin(), s->end(), std::back_inserter(known), [](const std::string& k) { return !k.empty(); });
  }
  return did_you_mean(name, known);
}

void warn(std::vector<std::string>* warnings, std::string text) {
  if (warnings != nullptr) warnings->push_back(std::move(text));
}

Status check_keep_float_names(const Names& names, const Recipe& recipe, std::vector<std::string>* warnings) {
  for (const std::string& entry : recipe.keep_float) {
    if (names.modules.contains(entry) || names.types.contains(entry) || names.nodes.contains(entry)) continue;
    if (op_from_name(entry).has_value()) {
      warn(warnings, fmt::format("keep_float \"{}\": the model has no such op", entry));
      continue;
    }
    return error(ErrorId::recipe_unmatched, "keep_float: the model has no node, module or type \"{}\"{}", entry,
                 suggestion(entry, {&names.nodes, &names.modules, &names.types}));
  }
  return {};
}

Status check_module_names(const Names& names, const Recipe& recipe) {
  for (const auto& [name, config] : recipe.module_name) {
    if (names.modules.contains(name)) continue;
    const bool has_any = std::any_of(names.modules.begin(), names.modules.end(), [](auto& m) { return !m.empty(); });
    return error(
        ErrorId::recipe_unmatched, "module_name: the model has no module \"{}\"{}{}", name,
        suggestion(name, {&names.modules}),
        has_any ? "" : "; its nodes belong to no modules: name them in keep_float, or their type in object_type");
  }
  return {};
}

Status check_standalone_names(const Graph& graph, const Names& names, const Recipe& recipe) {
  for (const auto& [name, inner] : recipe.custom.standalone_module_name) {
    if (!name.empty() && names.modules.contains(name)) continue;
    return error(ErrorId::recipe_unmatched, "standalone_module_name: the model has no module \"{}\"{}", name,
                 suggestion(name, {&names.modules}));
  }
  for (const auto& [type, inner] : recipe.custom.standalone_module_class) {
    if (!fx::modules_of_class(graph, type).empty()) continue;
    return error(ErrorId::recipe_unmatched, "standalone_module_class: the model has no module of class \"{}\"{}", type,
                 suggestion(type, {&names.types}));
  }
  return {};
}

void warn_of_patterns(const Names& names, const Recipe& recipe, std::vector<std::string>* warnings) {
  for (const auto& [pattern, config] : recipe.module_name_regex) {
    const std::regex compiled(pattern);  // parse_recipe has tried it
    const bool matches = std::any_of(names.modules.begin(), names.modules.end(), [&](const std::string& module) {
      return std::regex_search(module, compiled, std::regex_constants::match_continuous);
    });
    if (!matches) warn(warnings, fmt::format("module_name_regex \"{}\" matches no module of the model", pattern));
  }
  if (!recipe.backend.empty()) return;
  for (const auto& [type, config] : recipe.object_type) {
    if (names.types.contains(type) || names.callees.contains(type)) continue;
    warn(warnings, fmt::format("object_type \"{}\": the model has no such op or class{}", type,
                               suggestion(type, {&names.types, &names.callees})));
  }
}

void warn_of_orders(const Names& names, const Recipe& recipe, std::vector<std::string>* warnings) {
  for (const OrderRule& rule : recipe.module_name_object_type_order) {
    if (names.modules.contains(rule.module)) continue;
    warn(warnings, fmt::format("module_name_object_type_order: the model has no module \"{}\"{}", rule.module,
                               suggestion(rule.module, {&names.modules})));
  }
}

// ---- nodes

// The weight that a qconfig would turn into codes; null for other ops.
const Value* weight_of(const Node& n) {
  if (is_one_of(n, {Op::conv, Op::linear}) || is_recurrent(n)) return n.input(1);
  return is_embedding(n) ? n.input(0) : nullptr;
}

Status check_node(const Node& n, const QConfig& config) {
  AOQ_TRY(check_observers(config));
  Status status = check_activation(config.activation);
  if (!status.ok()) return std::move(status).with_context("activation");
  const WeightForm form = weight_form(config);
  // Tables have the one form, and recurrent ops not every one: other qconfigs leave them in float.
  if (is_embedding(n) != (form == WeightForm::rows)) return {};
  const bool is_static = form == WeightForm::static_int8 && is_recurrent(n) && why_no_static_form(n, config).empty();
  if (is_recurrent(n) && form != WeightForm::dynamic_int8 && !is_static) return {};
  const auto rank = static_cast<std::int64_t>(weight_of(n)->type().shape.size());
  status = check_weight(config, is_recurrent(n) ? 2 : rank);
  return status.ok() ? Status() : std::move(status).with_context("weight");
}

std::string module_of(const Node& n) {
  return n.scope.path.empty() ? describe(n) : fmt::format("module \"{}\", {}", n.scope.path, describe(n));
}

}  // namespace

Status check_recipe(const Recipe& recipe) {
  const bool is_fx = !recipe.backend.empty();
  AOQ_TRY(check_rule("global", recipe.global, is_fx));
  const std::pair<const char*, const std::vector<QConfigRule>*> lists[] = {
      {"object_type", &recipe.object_type},
      {"module_name_regex", &recipe.module_name_regex},
      {"module_name", &recipe.module_name}};
  for (const auto& [kind, rules] : lists) {
    for (const auto& [name, config] : *rules) {
      AOQ_TRY(check_rule(fmt::format("{} \"{}\"", kind, name), config, is_fx));
    }
  }
  for (const OrderRule& rule : recipe.module_name_object_type_order) {
    AOQ_TRY(check_rule(fmt::format("module_name_object_type_order \"{}\"", rule.module), rule.qconfig, is_fx));
  }
  return {};
}

Status check_names(const Graph& graph, const Recipe& recipe, std::vector<std::string>* warnings) {
  const Names names(graph);
  AOQ_TRY(check_module_names(names, recipe));
  AOQ_TRY(check_standalone_names(graph, names, recipe));
  AOQ_TRY(check_keep_float_names(names, recipe, warnings));
  warn_of_patterns(names, recipe, warnings);
  warn_of_orders(names, recipe, warnings);
  return {};
}

Status check_qconfigs(const Graph& graph, const Recipe& recipe) {
  if (!recipe.backend.empty()) return check_recipe(recipe);
  for (const Node* n : graph.nodes()) {
    if (weight_of(*n) == nullptr) continue;
    const QConfigMatch match = match_qconfig(recipe, *n);
    if (match.qconfig == nullptr) continue;
    Status status = check_node(*n, *match.qconfig);
    if (!status.ok()) return std::move(status).with_context(fmt::format("{} ({})", module_of(*n), match.because));
  }
  return {};
}

Status check_finite_state(const ObserverState& state) {
  for (const std::vector<float>* ends : {&state.min, &state.max}) {
    for (float v : *ends) {
      if (std::isfinite(v)) continue;
      return error(ErrorId::not_finite, "the range has the end {}, expected finite numbers; calibrate again", v);
    }
  }
  return {};
}

Status check_ranges(const Graph& graph, const Ranges& ranges) {
  for (const Node* n : graph.nodes()) {
    if (!n->is(Op::observe) || constant_tensor(n->input(0)) != nullptr) continue;
    const auto it = ranges.observers.find(n->attributes().string("observer"));
    if (it == ranges.observers.end()) continue;
    Status status = check_finite_state(it->second->state());
    if (status.ok() && !it->second->has_data()) {
      status = error(ErrorId::observer_empty,
                     "its {} observer saw no data: calibrate with samples that reach it, or leave the module in float",
                     it->second->spec().kind);
    }
    if (!status.ok()) {
      return std::move(status).with_context(
          fmt::format("observer \"{}\" of {}", it->first, module_of(*n->input(0)->def())));
    }
  }
  return {};
}

Status check_activation_qparams(const QParams& q) {
  if (q.scale.size() != 1 || q.zero_point.size() != 1) {
    return error(ErrorId::qconfig_unsupported,
                 "an activation has {} scales and {} integer zero points, expected one each", q.scale.size(),
                 q.zero_point.size());
  }
  if (!holds_codes(q.dtype)) {
    return error(ErrorId::qconfig_unsupported, "an activation has codes of {}, expected integers of at most 16 bits",
                 dtype_name(q.dtype));
  }
  const DTypeInfo& info = dtype_info(q.dtype);
  const auto zero_point = static_cast<double>(q.zero_point[0]);
  if (zero_point >= info.min && zero_point <= info.max) return {};
  return error(ErrorId::qconfig_unsupported, "an activation has the zero point {}, expected a code of {}",
               q.zero_point[0], info.name);
}

Status check_weight_qparams(const QParams& q, std::int64_t output_channels) {
  const bool is_even = std::all_of(q.zero_point.begin(), q.zero_point.end(), [](std::int64_t z) { return z == 0; });
  if (!is_even || !q.float_zero_point.empty()) {
    return error(ErrorId::qconfig_unsupported, "a weight has zero points other than 0, expected a symmetric scheme");
  }
  const bool is_per_output = static_cast<std::int64_t>(q.scale.size()) == output_channels && q.axis <= 0;
  if (q.scale.size() != 1 && !is_per_output) {
    return error(
        ErrorId::qconfig_unsupported,
        "a weight has {} scales along axis {}, expected one, or one for each of its {} output channels (axis 0)",
        q.scale.size(), q.axis, output_channels);
  }
  if (q.range.min >= -128 && q.range.max <= 127) return {};
  return error(ErrorId::qconfig_unsupported, "a weight has codes from {} to {}, expected -128 to 127", q.range.min,
               q.range.max);
}

}  // namespace aoq
