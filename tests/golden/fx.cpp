// fx_quantize: a model through trace, prepare, calibrate, convert and lower, each step compared with PyTorch's: the
// graphs as text, observers, ranges, integer weights, the value of every node, the results.
#include "tests/golden/fx.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "ir/interpreter.h"
#include "ir/nn/namer.h"
#include "passes/fx/qat.h"
#include "passes/fx/units.h"
#include "passes/fx/workflow.h"
#include "passes/pipeline.h"
#include "passes/quantize/calibration.h"
#include "tests/golden/fx_model.h"
#include "tests/golden/run.h"
#include "tools/machine.h"

namespace aoq::golden {
namespace {

// ---- the qconfig mapping of a case, which is told in words

std::string trimmed(std::string text) {
  while (!text.empty() && text.front() == ' ') text.erase(0, 1);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::string between(const std::string& text, char a, char b) {
  const std::size_t begin = text.find(a);
  const std::size_t end = begin == std::string::npos ? begin : text.find(b, begin + 1);
  return end == std::string::npos ? std::string() : text.substr(begin + 1, end - begin - 1);
}

struct Clause {
  std::string subject;
  std::optional<QConfig> qconfig;
};

Result<Clause> parse_clause(std::string text) {
  const std::size_t remark = text.find(" (");
  if (remark != std::string::npos) text = trimmed(text.substr(0, remark));
  Clause clause;
  std::string name;
  if (text.ends_with(" None")) {
    clause.subject = trimmed(text.substr(0, text.size() - 5));
    return clause;
  }
  if (text.ends_with(" default")) {
    text = trimmed(text.substr(0, text.size() - 8));
    const std::size_t space = text.find_last_of(' ');
    name = text.substr(space + 1);
    clause.subject = space == std::string::npos ? std::string() : trimmed(text.substr(0, space));
  } else {
    const std::size_t space = text.find_last_of(' ');
    name = text.substr(space + 1);
    clause.subject = space == std::string::npos ? std::string() : trimmed(text.substr(0, space));
    const bool is_call = name.starts_with("get_default_qconfig(");
    if (is_call) name = name.find('\'') != std::string::npos ? between(name, '\'', '\'') : between(name, '"', '"');
  }
  if (clause.subject.ends_with("->")) clause.subject = trimmed(clause.subject.substr(0, clause.subject.size() - 2));
  AOQ_ASSIGN(clause.qconfig, fx::named_qconfig(name));
  return clause;
}

void add_types(Recipe& recipe, std::string subject, const std::optional<QConfig>& qconfig) {
  for (std::size_t at = subject.find(" and ");; at = subject.find(" and ")) {
    std::string type = trimmed(at == std::string::npos ? subject : subject.substr(0, at));
    if (type.starts_with("nn.")) type = type.substr(3);
    recipe.object_type.emplace_back(type, qconfig);
    if (at == std::string::npos) return;
    subject = subject.substr(at + 5);
  }
}

Result<Recipe> recipe_of(const Case& c) {
  AOQ_ASSIGN(const std::string text, json_string(c.args(), "qconfig_mapping"));
  if (text.starts_with("get_default_qconfig_mapping")) return fx::fx_recipe(between(text, '"', '"'));
  if (text.starts_with("get_default_qat_qconfig_mapping")) return fx::fx_qat_recipe(between(text, '"', '"'));
  Recipe recipe;
  AOQ_ASSIGN(recipe.backend, json_string(c.args(), "engine"));
  recipe.bias_correction = recipe.equalization = false;
  std::string rest = text;
  while (!rest.empty()) {
    const std::size_t semicolon = rest.find(';');
    AOQ_ASSIGN(const Clause clause, parse_clause(trimmed(rest.substr(0, semicolon))));
    rest = semicolon == std::string::npos ? std::string() : rest.substr(semicolon + 1);
    if (clause.subject == "global") {
      recipe.global = clause.qconfig;
    } else if (clause.subject.starts_with("regex")) {
      recipe.module_name_regex.emplace_back(between(clause.subject, '\'', '\''), clause.qconfig);
    } else if (clause.subject.starts_with("'")) {
      recipe.module_name.emplace_back(between(clause.subject, '\'', '\''), clause.qconfig);
    } else {
      add_types(recipe, clause.subject, clause.qconfig);
    }
  }
  return recipe;
}

void add_custom(const Case& c, const FxCase& fx, Recipe& recipe) {
  for (const ModuleLine& m : fx.prepared_modules) {
    if (m.type == "StaticObservedCustomLinear") {
      recipe.custom.custom_modules.push_back({QuantMode::static_quantization, "model_parts.CustomLinear",
                                              "model_parts.StaticObservedCustomLinear",
                                              "model_parts.StaticQuantizedCustomLinear"});
    } else if (m.type == "CustomLinear" || m.type == "ObservedCustomLinear") {
      recipe.custom.custom_modules.push_back({QuantMode::dynamic_quantization, "model_parts.CustomLinear",
                                              "model_parts.ObservedCustomLinear",
                                              "model_parts.DynamicQuantizedCustomLinear"});
    }
  }
  const Json& test = c.input_json("test");
  for (std::size_t i = 0; i < test.size(); ++i) {
    if (!test[i].contains("scale")) continue;
    recipe.custom.quantized_inputs.push_back(
        {static_cast<std::int64_t>(i), test[i]["scale"].get<double>(), test[i]["zero_point"].get<std::int64_t>()});
  }
  const Json& y = c.output_json("y");
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (y[i].contains("scale")) recipe.custom.quantized_outputs.push_back(static_cast<std::int64_t>(i));
  }
}

// ---- steps

class Batches : public CalibrationData {
 public:
  explicit Batches(const std::vector<std::vector<Tensor>>& batches) : batches_(batches) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (at_ == batches_.size()) return false;
    batch = batches_[at_++];
    return true;
  }

 private:
  const std::vector<std::vector<Tensor>>& batches_;
  std::size_t at_ = 0;
};

std::string first_difference(const std::string& expected, const std::string& found) {
  std::size_t line = 1, begin = 0;
  for (std::size_t i = 0; i < std::min(expected.size(), found.size()); ++i) {
    if (expected[i] != found[i]) break;
    if (expected[i] == '\n') {
      ++line;
      begin = i + 1;
    }
  }
  auto line_at = [&](const std::string& s) {
    return s.substr(std::min(begin, s.size()), s.find('\n', std::min(begin, s.size())) - std::min(begin, s.size()));
  };
  return fmt::format("line {}: expected \"{}\", found \"{}\"", line, line_at(expected), line_at(found));
}

Status compare_graph(Case& c, const char* file, const Graph& graph) {
  AOQ_ASSIGN(const std::string text, golden_text(c, file));
  AOQ_ASSIGN(const std::vector<FxLine> lines, parse_fx(text));
  const std::string expected = structure_of(lines), found = fx::print_fx(graph);
  if (expected != found) c.fail(fmt::format("{}: {}", file, first_difference(expected, found)));
  return {};
}

constexpr std::pair<std::string_view, std::string_view> kObserverClasses[] = {
    {"MinMaxObserver", "min_max"},
    {"MovingAverageMinMaxObserver", "moving_average_min_max"},
    {"PerChannelMinMaxObserver", "per_channel_min_max"},
    {"MovingAveragePerChannelMinMaxObserver", "moving_average_per_channel_min_max"},
    {"HistogramObserver", "histogram"},
    {"FixedQParamsObserver", "fixed_qparams"},
    {"PlaceholderObserver", "placeholder"}};

// "quint8" and the like to our types.
std::string dtype_text(const std::string& torch) {
  if (torch == "quint8") return "u8";
  if (torch == "qint8") return "i8";
  if (torch == "float16") return "f16";
  return torch;
}

Status compare_observer(Case& c, const ModuleLine& line, const Node& o) {
  AOQ_ASSIGN(const ObserverSpec spec, parse_observer_spec(o.attributes().string("spec")));
  const Json json = spec_to_json(spec);
  std::string_view kind;
  for (const auto& [type, ours] : kObserverClasses) {
    if (type == line.type) kind = ours;
  }
  if (kind != spec.kind) c.fail(fmt::format("{}: expected {}, found {}", line.name, line.type, spec.kind));
  for (const auto& [fact, text] : line.facts) {
    if (fact == "dtype" && dtype_text(text) != dtype_name(spec.dtype)) {
      c.fail(fmt::format("{}: dtype {}, found {}", line.name, text, dtype_name(spec.dtype)));
    }
    if (fact == "qscheme" && text != json["qscheme"].get<std::string>())
      c.fail(fmt::format("{}: qscheme {}", line.name, text));
    if (fact == "reduce_range" && (text == "True") != spec.reduce_range) c.fail(line.name + ": reduce_range " + text);
    if (fact == "is_dynamic" && (text == "True") && spec.kind != "placeholder") c.fail(line.name + ": is_dynamic");
  }
  return {};
}

// Fake-quantize modules hold their observer: "a.weight_fake_quant.activation_post_process" is the observer "a.weight".
std::string observer_name(const std::string& name) {
  const std::string inner = ".activation_post_process", weight = "_fake_quant" + inner;
  if (name.ends_with(weight)) return name.substr(0, name.size() - weight.size());
  const bool is_inner = name.starts_with("activation_post_process") && name.ends_with(inner);
  return is_inner ? name.substr(0, name.size() - inner.size()) : name;
}

Status compare_observers(Case& c, const FxCase& fx, const Graph& graph) {
  for (const ModuleLine& line : fx.prepared_modules) {
    if (line.name.find("activation_post_process") == std::string::npos) continue;
    if (line.type.find("FakeQuantize") != std::string::npos) continue;  // its observer has a line of its own
    const std::string name = observer_name(line.name);
    const Node* found = nullptr;
    for (const Node* n : graph.nodes()) {
      if (n->is(Op::observe) && n->attributes().string("observer") == name) found = n;
    }
    if (found == nullptr) {
      c.fail(line.name + ": expected, not found");
    } else {
      AOQ_TRY(compare_observer(c, line, *found));
    }
  }
  return {};
}

// [scale, zero_point, min, max], each one number or one per channel: exact where the values observed are inputs; else
// within the differences of float sums.
Status compare_range(Case& c, const std::string& name, const Json& info, const Observer& observer, double relative) {
  AOQ_ASSIGN(const QParams q, observer.qparams());
  std::vector<std::vector<double>> expected;
  for (const Json& part : info) {
    AOQ_ASSIGN(const Tensor t, c.tensor(part));
    expected.push_back(to_doubles(t));
  }
  const ObserverState& state = observer.state();
  if (expected[0].size() != q.scale.size() || expected[2].size() != state.min.size()) {
    c.fail(fmt::format("{}: {} scales, found {}", name, expected[0].size(), q.scale.size()));
    return {};
  }
  for (std::size_t i = 0; i < q.scale.size(); ++i) {
    const double step = expected[0][i], scale = static_cast<double>(q.scale[i]);
    if (std::fabs(scale - step) > 2.5 * relative * step)
      c.fail(fmt::format("{}: scale {}, found {}", name, step, scale));
    if (static_cast<double>(q.zero_point[i]) != expected[1][i]) {
      c.fail(fmt::format("{}: zero point {}, found {}", name, expected[1][i], q.zero_point[i]));
    }
  }
  for (std::size_t i = 0; i < state.min.size(); ++i) {
    const double range = std::max(std::fabs(expected[2][i]), std::fabs(expected[3][i]));
    if (std::fabs(static_cast<double>(state.min[i]) - expected[2][i]) > relative * range ||
        std::fabs(static_cast<double>(state.max[i]) - expected[3][i]) > relative * range) {
      c.fail(fmt::format("{}: range [{}, {}], found [{}, {}]", name, expected[2][i], expected[3][i], state.min[i],
                         state.max[i]));
    }
  }
  return {};
}

Status compare_ranges(Case& c, const Ranges& ranges, bool is_trained) {
  for (const auto& [key, info] : c.outputs_json().items()) {
    if (!key.starts_with("observer.")) continue;
    const std::string name = observer_name(key.substr(9));
    const auto found = ranges.observers.find(name);
    if (found == ranges.observers.end()) {
      if (is_trained) c.fail(name + ": expected, not found");
      continue;  // a weight's: compared by its codes
    }
    const double relative = name == "activation_post_process_0" ? 0.0 : is_trained ? 1e-5 : 4e-6;
    AOQ_TRY(compare_range(c, name, info, *found->second, relative));
  }
  return {};
}

// Integer weights by module name: exact, but for a step where a batch norm was folded.
Status compare_weights(Case& c, const Graph& graph) {
  int compared = 0;
  for (const Node* n : graph.nodes()) {
    const std::string name = "module." + n->scope.path + ".weight";
    const bool is_weighted = n->is(Op::conv) || n->is(Op::conv_transpose) || n->is(Op::linear);
    if (!is_weighted || !n->input(1)->def()->is(Op::dequantize) || !c.has_output(name.c_str())) continue;
    const std::vector<double> found = to_doubles(*constant_tensor(n->input(1)->def()->input(0)));
    AOQ_ASSIGN(const Tensor tensor, c.output(name.c_str()));
    const std::vector<double> expected = to_doubles(tensor);
    const bool is_folded = n->origins.size() > 1;
    std::size_t differing = 0;
    for (std::size_t i = 0; i < expected.size() && found.size() == expected.size(); ++i) {
      const double difference = std::fabs(found[i] - expected[i]);
      differing += difference > (is_folded ? 1.0 : 0.0);
    }
    if (found.size() != expected.size() || differing > 0) c.fail(fmt::format("{}: {} codes differ", name, differing));
    ++compared;
  }
  for (const auto& [key, info] : c.outputs_json().items()) {
    const bool is_integer = info.is_object() && info.contains("dtype") && info["dtype"] == "qint8";
    if (key.starts_with("module.") && key.ends_with(".weight") && is_integer &&
        key.find("custom.") == std::string::npos) {
      --compared;
    }
  }
  if (compared != 0) c.fail(fmt::format("{} integer weights too many", compared));
  return {};
}

// ---- values

struct Counts {
  std::size_t elements = 0, differing = 0;
  std::string where;  // the nodes that differ, with how much
};

void compare_codes(Case& c, const std::string& name, std::span<const double> expected, std::span<const double> found,
                   Counts& counts) {
  if (expected.size() != found.size()) {
    return c.fail(fmt::format("{}: {} elements, found {}", name, expected.size(), found.size()));
  }
  double worst = 0;
  std::size_t differing = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = std::fabs(expected[i] - found[i]);
    worst = std::max(worst, d);
    differing += d > 0;
  }
  counts.differing += differing;
  if (differing > 0) counts.where += fmt::format(" {} ({} of {})", name, differing, expected.size());
  counts.elements += expected.size();
  if (worst > 1) c.fail(fmt::format("{}: codes differ by {}", name, worst));
}

void compare_floats(Case& c, const std::string& name, std::span<const double> expected, std::span<const double> found,
                    double step) {
  if (expected.size() != found.size()) {
    return c.fail(fmt::format("{}: {} elements, found {}", name, expected.size(), found.size()));
  }
  double largest = 0, worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    worst = std::max(worst, std::fabs(expected[i] - found[i]));
  }
  if (worst > step * 1.001 + 1e-5 * largest) c.fail(fmt::format("{}: differs by {} of {}", name, worst, largest));
}

// The names that lowering gives to the functions it replaces: new ones, in the order of the graph.
Result<std::map<std::string, std::string>> lowered_names(const Case& c) {
  AOQ_ASSIGN(const std::string text, golden_text(c, "graph_reference.txt"));
  AOQ_ASSIGN(const std::vector<FxLine> lines, parse_fx(text));
  nn::Namer names;
  std::map<std::string, const FxLine*> by_name;
  for (const FxLine& line : lines) {
    names.create(line.name);
    by_name[line.name] = &line;
  }
  std::map<std::string, std::string> out;  // new name to old
  for (const FxLine& line : lines) {
    const std::string target = line.short_target();
    if (line.op != "call_function" || (target != "add" && target != "mul" && target != "matmul")) continue;
    const std::vector<std::string> nodes = line.nodes();
    const bool reads_codes = std::all_of(nodes.begin(), nodes.end(), [&](const std::string& n) {
      return by_name.contains(n) && by_name[n]->target == "dequantize";
    });
    if (!reads_codes) continue;
    const FxLine* reader = nullptr;
    for (const FxLine& l : lines) {
      const std::vector<std::string> from = l.nodes();
      if (std::find(from.begin(), from.end(), line.name) != from.end()) reader = &l;
    }
    const bool has_relu = reader != nullptr && reader->short_target().find("relu") != std::string::npos;
    out[names.create(has_relu ? target + "_relu" : target)] = has_relu ? reader->name : line.name;
  }
  return out;
}

// Functions whose integer kernels choose the scale of their result, in PyTorch and here: their codes are compared as
// they are.
Result<std::set<std::string>> with_own_scale(const Case& c) {
  AOQ_ASSIGN(const std::string text, golden_text(c, "graph_reference.txt"));
  AOQ_ASSIGN(const std::vector<FxLine> lines, parse_fx(text));
  std::set<std::string> out;
  for (const FxLine& line : lines) {
    const std::string target = line.short_target();
    const bool is_fixed = target == "sigmoid" || target == "tanh" || target == "hardsigmoid";
    const bool is_scalar = (target == "add" || target == "mul") && line.nodes().size() == 1;
    if ((line.op == "call_function" || line.op == "call_method") && (is_fixed || is_scalar)) out.insert(line.name);
  }
  return out;
}

class NodeValues {
 public:
  // Runs a lowered graph and keeps what every unit makes, by name.
  static Result<NodeValues> of(const Graph& graph, const std::vector<Tensor>& inputs) {
    NodeValues out;
    ReferenceExecutor executor;
    AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph));
    const fx::Units units(graph);
    std::map<const Value*, std::vector<std::string>> names;
    Tap tap;
    for (const fx::Unit& u : units.all()) {
      if (!u.is_call() || u.nodes.back()->output_count() == 0) continue;
      const Value* v = u.nodes.back()->output();
      names[v].push_back(u.name);
      tap.values.push_back(v);
    }
    tap.callback = [&](const Value& v, TensorView view) -> Status {
      const std::size_t bytes = static_cast<std::size_t>(view.element_count() * dtype_info(view.dtype).bits / 8);
      AOQ_ASSIGN(Tensor t, Tensor::copy_of(view.dtype, {view.shape.begin(), view.shape.end()}, {view.data, bytes}));
      for (const std::string& name : names[&v]) out.values_[name] = t;
      return {};
    };
    AOQ_ASSIGN(out.results_, executable->run(inputs, tap));
    return out;
  }
  const Tensor* find(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }
  const std::vector<Tensor>& results() const { return results_; }

 private:
  std::map<std::string, Tensor> values_;
  std::vector<Tensor> results_;
};

double largest_step(const Case& c) {
  double step = 0;
  for (const auto& [key, info] : c.outputs_json().items()) {
    if (info.is_object() && info.contains("scale") && info["scale"].is_number()) {
      step = std::max(step, info["scale"].get<double>());
    }
  }
  return step;
}

// How the value of each unit becomes codes in the reference graph.
struct Step {
  double scale = 1;
  double zero_point = 0;
};
std::map<std::string, Step> steps_of(const Graph& graph) {
  std::map<std::string, Step> out;
  const fx::Units units(graph);
  for (const fx::Unit& u : units.all()) {
    if (!u.is_call() || u.nodes.back()->output_count() == 0) continue;
    for (const Use& use : u.nodes.back()->output()->uses()) {
      if (!use.user->is(Op::quantize) || use.user->inputs().size() != 1) continue;
      out[u.name] = {use.user->attributes().real("scale"),
                     static_cast<double>(use.user->attributes().integer("zero_point"))};
    }
  }
  return out;
}

std::vector<double> as_floats(const Tensor& t, const Step& step) {
  std::vector<double> out = to_doubles(t);
  if (t.dtype() == DType::f32) return out;
  for (double& v : out) v = (v - step.zero_point) * step.scale;
  return out;
}

// Numbers of a tensor that lie in the range of the codes that PyTorch makes of it next, or of ours.
void clip(std::vector<double>& values, const Step& step) {
  for (double& v : values) v = std::clamp(v, -step.zero_point * step.scale, (255 - step.zero_point) * step.scale);
}

Status compare_values(Case& c, const NodeValues& values, const std::map<std::string, Step>& steps) {
  AOQ_ASSIGN(const auto renamed, lowered_names(c));
  AOQ_ASSIGN(const std::set<std::string> own_scale, with_own_scale(c));
  Counts counts;
  int compared = 0;
  for (const auto& [key, info] : c.outputs_json().items()) {
    if (!key.starts_with("node.")) continue;
    std::string name = key.substr(5);
    if (name.starts_with("quantize_per_tensor") || name.starts_with("dequantize")) continue;
    if (const auto it = renamed.find(name); it != renamed.end()) name = it->second;
    const Tensor* found = values.find(name);
    if (found == nullptr) {
      c.fail(key + ": no such node in the lowered graph");
      continue;
    }
    AOQ_ASSIGN(const Tensor tensor, c.tensor(info));
    ++compared;
    const bool expects_codes = info.contains("scale");
    const auto step = steps.find(name);
    if (expects_codes && found->dtype() != DType::f32) {
      const double scale = info["scale"].get<double>();
      const bool same =
          step == steps.end() || own_scale.contains(name) || std::fabs(step->second.scale - scale) < 1e-5 * scale;
      if (same) {
        compare_codes(c, key, to_doubles(tensor), to_doubles(*found), counts);
        continue;
      }
      // PyTorch derives another scale for arithmetic with a number (and the range ends elsewhere).
      std::vector<double> expected = as_floats(tensor, {scale, info["zero_point"].get<double>()});
      clip(expected, step->second);
      compare_floats(c, key, expected, as_floats(*found, step->second), std::max(scale, step->second.scale));
    } else if (found->dtype() != DType::f32 && step == steps.end()) {
      c.fail(key + ": codes of an unknown scale, expected floats");
    } else {
      // One of the two has rounded to codes already.
      Step golden{expects_codes ? info["scale"].get<double>() : 1,
                  expects_codes ? info["zero_point"].get<double>() : 0};
      std::vector<double> expected = expects_codes ? as_floats(tensor, golden) : to_doubles(tensor);
      std::vector<double> ours = as_floats(*found, step == steps.end() ? Step{} : step->second);
      if (found->dtype() != DType::f32) clip(expected, step->second);
      if (expects_codes) clip(ours, golden);
      compare_floats(c, key, expected, ours, largest_step(c));
    }
  }
  if (compared == 0) c.fail("no node was compared");
  if (counts.differing * 200 > counts.elements) {
    c.fail(fmt::format("{} of {} codes differ:{}", counts.differing, counts.elements, counts.where));
  }
  return {};
}

// ---- sums of 16 bits
//
// Without VNNI oneDNN adds pairs of u8 x s8 products in 16 bits, which saturate. Its layers are compared one by one on
// PyTorch's own codes, and an element may differ where a pair of the sum can leave 16 bits.

Result<Tensor> golden_node(const Case& c, const std::string& name) {
  const std::string key = "node." + name;
  if (!c.has_output(key.c_str())) return error(Code::not_found, "{} is not recorded", name);
  return c.output(key.c_str());
}

// Whether a pair of neighbouring channels can saturate, for each element of a convolution's or linear's result.
std::vector<bool> can_saturate(const Node& n, const Tensor& x, const Tensor& w, const Type& out) {
  const std::vector<std::int64_t>& xs = x.shape();
  const std::vector<std::int64_t>& ws = w.shape();
  const bool is_conv = n.is(Op::conv);
  const std::int64_t channels = ws[1], kh = is_conv ? ws[2] : 1, kw = is_conv ? ws[3] : 1;
  const std::int64_t h = is_conv ? xs[2] : 1, width = is_conv ? xs[3] : 1, batch = xs[0];
  const std::int64_t oh = is_conv ? out.shape[2].constant() : 1, ow = is_conv ? out.shape[3].constant() : 1;
  auto setting = [&](const char* name, std::int64_t otherwise) {
    return is_conv && !n.attributes().integers(name).empty() ? n.attributes().integers(name)[0] : otherwise;
  };
  const std::int64_t stride = setting("stride", 1), pad = setting("pads", 0);
  const std::span<const std::uint8_t> codes = x.as<std::uint8_t>();
  const std::span<const std::int8_t> weights = w.as<std::int8_t>();
  auto product = [&](std::int64_t b, std::int64_t o, std::int64_t ch, std::int64_t y, std::int64_t xx, std::int64_t i,
                     std::int64_t j) -> std::int64_t {
    if (ch >= channels || y < 0 || xx < 0 || y >= h || xx >= width) return 0;
    return std::int64_t{codes[static_cast<std::size_t>(((b * channels + ch) * h + y) * width + xx)]} *
           weights[static_cast<std::size_t>(((o * channels + ch) * kh + i) * kw + j)];
  };
  std::vector<bool> result;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t o = 0; o < ws[0]; ++o) {
      for (std::int64_t p = 0; p < oh * ow; ++p) {
        bool saturates = false;
        for (std::int64_t k = 0; k < kh * kw; ++k) {
          const std::int64_t y = p / ow * stride - pad + k / kw, xx = p % ow * stride - pad + k % kw;
          for (std::int64_t ch = 0; ch < channels; ch += 2) {
            const std::int64_t sum =
                product(b, o, ch, y, xx, k / kw, k % kw) + product(b, o, ch + 1, y, xx, k / kw, k % kw);
            saturates = saturates || sum > 32767 || sum < -32768;
          }
        }
        result.push_back(saturates);
      }
    }
  }
  return result;
}

// Q(op(DQ(x), DQ(w))) of one weighted node on recorded codes.
Result<Tensor> layer_on(const Node& n, const Tensor& x, Node** quantize) {
  const Node& dq = *n.input(0)->def();
  AOQ_ASSIGN(std::vector<Tensor> real, evaluate_node(dq, std::vector<Tensor>{x}));
  const Node& weight = *n.input(1)->def();
  AOQ_ASSIGN(std::vector<Tensor> w, evaluate_node(weight, std::vector<Tensor>{*constant_tensor(weight.input(0)),
                                                                              *constant_tensor(weight.input(1))}));
  std::vector<Tensor> inputs{real[0], w[0]};
  if (n.input(2) != nullptr) inputs.push_back(*constant_tensor(n.input(2)));
  AOQ_ASSIGN(std::vector<Tensor> y, evaluate_node(n, inputs));
  Node* reader = n.output()->uses()[0].user;
  while (!reader->is(Op::quantize)) {
    if (!reader->is(Op::relu)) return error(Code::not_found, "{} is not quantized at once", n.label());
    AOQ_ASSIGN(y, evaluate_node(*reader, y));
    reader = reader->output()->uses()[0].user;
  }
  *quantize = reader;
  AOQ_ASSIGN(y, evaluate_node(*reader, y));
  return std::move(y[0]);
}

// The quantize that PyTorch's converted graph has behind a float node.
Result<std::string> stub_behind(const Case& c, const std::string& name) {
  AOQ_ASSIGN(const std::string text, golden_text(c, "graph_converted.txt"));
  AOQ_ASSIGN(const std::vector<FxLine> lines, parse_fx(text));
  for (const FxLine& line : lines) {
    const std::vector<std::string> nodes = line.nodes();
    if (line.short_target() == "quantize_per_tensor" && !nodes.empty() && nodes[0] == name) return line.name;
  }
  return std::string("none");
}

Status compare_layers(Case& c, const Graph& graph) {
  int compared = 0;
  Counts counts;
  for (const Node* n : graph.nodes()) {
    if ((!n->is(Op::conv) && !n->is(Op::linear)) || !n->input(0)->def()->is(Op::dequantize)) continue;
    const Node* quantize_x = n->input(0)->def()->input(0)->def();
    if (!quantize_x->is(Op::quantize)) continue;
    // The unit that made the codes, or the stub itself at the input.
    const Node* maker = quantize_x->input(0)->def();
    const std::string from = maker->is(Op::input) ? std::string("quantize_per_tensor") : maker->origins.front();
    Result<Tensor> x = golden_node(c, from);
    if (x.ok() && x->dtype() == DType::f32) {
      AOQ_ASSIGN(const std::string stub, stub_behind(c, from));
      x = golden_node(c, stub);
    }
    const Result<Tensor> expected = golden_node(c, n->origins.front());
    if (!x.ok() || !expected.ok() || x->dtype() != DType::u8) continue;
    Node* quantize = nullptr;
    AOQ_ASSIGN(const Tensor y, layer_on(*n, *x, &quantize));
    const std::vector<double> found = to_doubles(y), wanted = to_doubles(*expected);
    const std::vector<bool> may =
        can_saturate(*n, *x, *constant_tensor(n->input(1)->def()->input(0)), n->output()->type());
    if (found.size() != wanted.size() || may.size() != found.size()) return error(Code::internal, "sizes differ");
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double d = std::fabs(found[i] - wanted[i]);
      ++counts.elements;
      if (may[i]) continue;
      counts.differing += d > 0;
      if (d > 1) c.fail(fmt::format("{}: element {} differs by {}", n->label(), i, d));
    }
    ++compared;
  }
  if (compared == 0) c.fail("no layer was compared");
  if (counts.differing * 200 > counts.elements) c.fail(fmt::format("{} codes differ", counts.differing));
  return {};
}

Status compare_results(Case& c, const char* key, const std::vector<Tensor>& found, double step) {
  const Json& expected = c.output_json(key);
  for (std::size_t i = 0; i < expected.size() && i < found.size(); ++i) {
    AOQ_ASSIGN(const Tensor tensor, c.tensor(expected[i]));
    Counts counts;
    if (expected[i].contains("scale")) {
      compare_codes(c, key, to_doubles(tensor), to_doubles(found[i]), counts);
    } else {
      compare_floats(c, key, to_doubles(tensor), to_doubles(found[i]), step);
    }
  }
  if (expected.size() != found.size())
    c.fail(fmt::format("{}: {} results, found {}", key, expected.size(), found.size()));
  return {};
}

// The batches forward in training mode, without gradients.
Status train(Case& c, Graph& graph, Ranges& ranges, const FxCase& fx) {
  AOQ_ASSIGN(fx::QatForward forward, fx::QatForward::make(graph, ranges));
  for (const std::vector<Tensor>& batch : fx.calibration) AOQ_TRY(forward.step(batch).status());
  return forward.finish();
}

Result<std::vector<Tensor>> run_reference(const Graph& graph, const std::vector<Tensor>& inputs) {
  ReferenceExecutor executor;
  AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph));
  return executable->run(inputs);
}

}  // namespace

namespace {

// With the mode of embedding bags that gives PyTorch's float result.
Result<Graph> traced(Case& c, const FxCase& fx) {
  const bool has_bags = std::any_of(fx.prepared_modules.begin(), fx.prepared_modules.end(),
                                    [](const ModuleLine& m) { return m.type == "EmbeddingBag"; });
  if (!has_bags) return trace_fx_case(c, fx);
  for (const char* mode : {"sum", "max"}) {
    AOQ_ASSIGN(Graph graph, trace_fx_case(c, fx, mode));
    AOQ_ASSIGN(const std::vector<Tensor> y, run_reference(graph, fx.test));
    AOQ_ASSIGN(const Tensor expected, c.tensor(c.output_json("y_float")[0]));
    const std::vector<double> a = to_doubles(expected), b = to_doubles(y[0]);
    const bool same =
        std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double p, double q) { return std::fabs(p - q) < 1e-4; });
    if (same) return graph;
  }
  return trace_fx_case(c, fx);
}

}  // namespace

Status fx_quantize(Case& c) {
  AOQ_ASSIGN(const FxCase fx, read_fx_case(c));
  AOQ_ASSIGN(Graph graph, traced(c, fx));
  if (fx.is_whole) AOQ_TRY(compare_graph(c, "graph_float.txt", graph));
  AOQ_ASSIGN(Recipe recipe, recipe_of(c));
  add_custom(c, fx, recipe);
  if (recipe.custom.quantized_inputs.empty()) {
    AOQ_ASSIGN(const std::vector<Tensor> y, run_reference(graph, fx.test));
    AOQ_TRY(compare_results(c, "y_float", y, 0));
  }

  const std::unique_ptr<TargetInfo> target = tools::make_target();
  const std::unique_ptr<Executor> executor = std::make_unique<ReferenceExecutor>();
  Ranges ranges;
  Batches data(fx.calibration);
  PassContext context;
  context.target = target.get();
  context.recipe = &recipe;
  context.ranges = &ranges;
  context.executor = executor.get();
  PipelineOptions options;
  options.mode = QuantMode::static_quantization;
  options.last = Stage::prepared;
  AOQ_TRY(run_pipeline(graph, context, options));
  AOQ_TRY(compare_graph(c, "graph_prepared.txt", graph));
  AOQ_TRY(compare_observers(c, fx, graph));

  if (recipe.qat) {
    AOQ_TRY(train(c, graph, ranges, fx));
  } else {
    context.data = &data;
  }
  options.last = Stage::quantized;
  AOQ_TRY(run_pipeline(graph, context, options));
  AOQ_TRY(compare_ranges(c, ranges, recipe.qat));
  AOQ_TRY(compare_graph(c, "graph_reference.txt", graph));
  AOQ_TRY(compare_weights(c, graph));
  AOQ_ASSIGN(const std::vector<Tensor> reference, run_reference(graph, fx.test));
  AOQ_TRY(compare_results(c, "y_reference", reference, largest_step(c)));

  const bool saturates = recipe.backend == "onednn";
  if (saturates) AOQ_TRY(compare_layers(c, graph));
  const std::map<std::string, Step> steps = steps_of(graph);
  const std::vector<std::string> lower{"fuse-activation", "dce", "lower"};
  AOQ_TRY(run_passes(graph, lower, context).status());
  AOQ_ASSIGN(const NodeValues values, NodeValues::of(graph, fx.test));
  if (!saturates) AOQ_TRY(compare_values(c, values, steps));
  options.last = Stage::lowered;
  AOQ_TRY(run_passes(graph, lowered_rewrites(), context).status());
  AOQ_ASSIGN(const Tensor y, run_on_cpu(std::move(graph), fx.test));
  // One saturated sum moves the result.
  return saturates ? Status() : compare_results(c, "y", {y}, largest_step(c));
}

}  // namespace aoq::golden
