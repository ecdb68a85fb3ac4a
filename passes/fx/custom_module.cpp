#include "passes/fx/custom_module.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "ir/error_id.h"
#include "ir/region.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, ObservedForm, std::less<>> observed;
  std::map<std::string, QuantizedForm, std::less<>> quantized;
};

Registry& registry() {
  static Registry* const r = new Registry;  // lives as long as the process
  return *r;
}

template <class Form>
Status add(std::map<std::string, Form, std::less<>>& forms, Form form, bool has_function) {
  if (form.name.empty() || !has_function) {
    return error(Code::invalid_argument, "custom module form \"{}\": a name and a function are required", form.name);
  }
  const std::string name = form.name;
  if (!forms.emplace(name, std::move(form)).second) {
    return error(Code::invalid_argument, "custom module form \"{}\" is registered already", name);
  }
  return {};
}

std::string module_of(const Node& n) {
  return n.scope.path.empty() ? describe(n) : "module \"" + n.scope.path + "\"";
}

RegionState state_of(const Node& n) {
  RegionState state;
  state.settings = n.attributes().string("settings");
  for (const Value* v : n.inputs()) {
    if (const Tensor* t = constant_tensor(v)) state.constants.push_back({v->def()->label(), *t});
  }
  return state;
}

std::vector<Value*> data_inputs(const Node& n) {
  std::vector<Value*> out;
  for (Value* v : n.inputs()) {
    if (constant_tensor(v) == nullptr) out.push_back(v);
  }
  return out;
}

// A region of another class with the same data inputs in the place of `old`, which stays until its readers have moved.
Result<Node*> make_region(Graph& graph, Node* old, const std::string& name, const RegionState& state,
                          std::vector<Value*> inputs) {
  for (const NamedTensor& c : state.constants) {
    Value* v = graph.constant(c.tensor, old, c.name);
    v->def()->scope = old->scope;
    inputs.push_back(v);
  }
  Attributes a{{"class", name}, {"settings", state.settings}};
  Result<Node*> made = graph.create_like(*old, Op::region, std::move(inputs), std::move(a), old);
  if (!made.ok()) return std::move(made).status().with_context(module_of(*old));
  return made;
}

void replace(Graph& graph, Node* old, Node* made) {
  for (std::size_t i = 0; i < old->output_count() && i < made->output_count(); ++i) {
    graph.replace_uses(old->output(i), made->output(i));
  }
}

Status missing_form(const Node& n, const char* what, const std::string& name) {
  return error(ErrorId::region_unknown,
               "{}: the {} form \"{}\" is not registered in this program: register the region class and its form "
               "(passes/fx/custom_module.h) before quantizing",
               module_of(n), what, name);
}

// Mode and qconfig must go together.
Status check_mode(const Node& n, const CustomModule& custom, const QConfig& qconfig) {
  if (custom.mode == QuantMode::weight_only) return {};
  const bool wants_dynamic = custom.mode == QuantMode::dynamic_quantization;
  if (wants_dynamic == is_dynamic(qconfig.activation)) return {};
  return error(ErrorId::recipe_invalid,
               "{}: custom module {} is {}, but its qconfig is {}: give it one of the same mode", module_of(n),
               custom.float_class, wants_dynamic ? "dynamic" : "static", wants_dynamic ? "static" : "dynamic");
}

Status observe_one(Graph& graph, Node* n, const CustomModule& custom, const QConfig& qconfig) {
  AOQ_TRY(check_mode(*n, custom, qconfig));
  const ObservedForm* form = find_observed_form(custom.observed_class);
  if (form == nullptr || find_region(custom.observed_class) == nullptr) {
    return missing_form(*n, "observed", custom.observed_class);
  }
  // Told now, not after hours of calibration.
  if (find_quantized_form(custom.quantized_class) == nullptr || find_region(custom.quantized_class) == nullptr) {
    return missing_form(*n, "quantized", custom.quantized_class);
  }
  Result<ObservedForm::Made> made = form->from_float(state_of(*n), qconfig);
  if (!made.ok()) return std::move(made).status().with_context(module_of(*n));
  AOQ_ASSIGN(Node * observed, make_region(graph, n, custom.observed_class, made->state, data_inputs(*n)));
  if (observed->output_count() != made->observers.size() + 1) {
    return error(Code::invalid_argument, "{}: {} has {} results, expected 1 and one for each of its {} observers",
                 module_of(*n), custom.observed_class, observed->output_count(), made->observers.size());
  }
  for (std::size_t k = 0; k < made->observers.size(); ++k) {
    const std::string name =
        n->scope.path + (k == 0 ? ".activation_post_process" : ".activation_post_process_" + std::to_string(k));
    Attributes a{{"observer", name}, {"spec", print_observer_spec(made->observers[k])}};
    AOQ_ASSIGN(Node * o, graph.create(Op::observe, {observed->output(k + 1)}, std::move(a), n));
    o->scope = {n->scope.path, n->scope.type, "module"};
    o->origins = {name};
  }
  replace(graph, n, observed);
  graph.erase(n);
  return {};
}

const CustomModule* custom_with(const Recipe& recipe, const Node& n, std::string CustomModule::* member) {
  if (!n.is(Op::region)) return nullptr;
  const std::string& name = n.attributes().string("class");
  for (const CustomModule& c : recipe.custom.custom_modules) {
    if (c.*member == name) return &c;
  }
  return nullptr;
}

}  // namespace

Status register_observed_form(ObservedForm form) {
  const std::lock_guard lock(registry().mutex);
  const bool has = form.from_float != nullptr;
  return add(registry().observed, std::move(form), has);
}

Status register_quantized_form(QuantizedForm form) {
  const std::lock_guard lock(registry().mutex);
  const bool has = form.from_observed != nullptr;
  return add(registry().quantized, std::move(form), has);
}

const ObservedForm* find_observed_form(std::string_view name) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().observed.find(name);
  return found == registry().observed.end() ? nullptr : &found->second;
}

const QuantizedForm* find_quantized_form(std::string_view name) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().quantized.find(name);
  return found == registry().quantized.end() ? nullptr : &found->second;
}

Status observe_custom_modules(Graph& graph, const Recipe& recipe) {
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (const CustomModule* custom = custom_with(recipe, *n, &CustomModule::float_class)) {
      const QConfigMatch match = match_qconfig(recipe, *n);
      if (match.qconfig != nullptr) AOQ_TRY(observe_one(graph, n, *custom, *match.qconfig));
    }
    n = next;
  }
  return {};
}

namespace {

Node* observe_reader(const Value* v) {
  for (const Use& use : v->uses()) {
    if (use.user->is(Op::observe)) return use.user;
  }
  return nullptr;
}

class CustomConversion {
 public:
  CustomConversion(Graph& graph, const Recipe& recipe, const QParamsOf& qparams_of)
      : graph_(graph), recipe_(recipe), qparams_of_(qparams_of) {}

  Result<Node*> convert(Node* n, const CustomModule& custom) {
    const QConfigMatch match = match_qconfig(recipe_, *n);
    if (match.qconfig == nullptr)
      return error(Code::invalid_argument, "the recipe is not the one it was prepared with");
    const QuantizedForm* form = find_quantized_form(custom.quantized_class);
    if (form == nullptr) return missing_form(*n, "quantized", custom.quantized_class);
    const bool is_static = custom.mode == QuantMode::static_quantization;
    std::vector<QParams> own;
    std::vector<Node*> dead;
    for (std::size_t k = 1; k < n->output_count(); ++k) {
      Node* o = observe_reader(n->output(k));
      if (o == nullptr) return error(Code::invalid_argument, "result {} lost its observer", k);
      AOQ_ASSIGN(QParams q, qparams(*o));
      own.push_back(std::move(q));
      dead.push_back(o);
    }
    std::optional<QParams> in, out;
    std::vector<Value*> inputs = data_inputs(*n);
    Node* behind = observe_reader(n->output());
    if (is_static) {
      AOQ_ASSIGN(in, codes_in(inputs));
      if (behind != nullptr) {
        AOQ_ASSIGN(out, qparams(*behind));
      }
    }
    const RegionState observed = state_of(*n);
    Result<RegionState> state =
        form->from_observed(observed, {*match.qconfig, own, in ? &*in : nullptr, out ? &*out : nullptr});
    if (!state.ok()) return std::move(state).status();
    AOQ_ASSIGN(Node * made, make_region(graph_, n, custom.quantized_class, *state, std::move(inputs)));
    AOQ_TRY(connect(n, made, is_static ? behind : nullptr));
    for (Node* o : dead) graph_.erase(o);
    const std::vector<Value*> before = data_inputs(*n);
    graph_.erase(n);
    for (const Value* v : before) {
      if (v->def()->is(Op::dequantize) && v->uses().empty()) graph_.erase(v->def());
    }
    return made;
  }

 private:
  Result<QParams> qparams(const Node& o) const { return qparams_of_(o.attributes().string("observer")); }

  // How a dequantize reads codes: by their type, or by what a recipe said of the graph's input.
  static std::optional<QParams> static_qparams(const Node& dq) {
    QParams q;
    q.dtype = dq.input(0)->type().dtype;
    const std::optional<Quantization>& type = dq.input(0)->type().quantization;
    if (type) {
      q.scale = {type->scale};
      q.zero_point = {type->zero_point};
    } else if (dq.inputs().size() == 1 && dq.attributes().has("scale")) {
      q.scale = {static_cast<float>(dq.attributes().real("scale"))};
      q.zero_point = {dq.attributes().integer("zero_point")};
    } else {
      return std::nullopt;
    }
    return q;
  }

  // Every data input as codes: the quantize in front, without its dequantize.
  Result<QParams> codes_in(std::vector<Value*>& inputs) {
    QParams first;
    for (Value*& v : inputs) {
      Node* dq = v->def();
      if (!dq->is(Op::dequantize)) return error(Code::invalid_argument, "an input is float, expected codes");
      Node* q = dq->input(0)->def();
      const std::optional<QParams> read = static_qparams(*dq);
      if (!read) return error(Code::invalid_argument, "an input has no static scale, found {}", describe(*q));
      if (first.scale.empty()) first = *read;
      v = dq->input(0);
    }
    return first;
  }

  // The observer behind a static module becomes a dequantize of the codes that it makes.
  Status connect(Node* n, Node* made, Node* behind) {
    if (behind == nullptr) {
      replace(graph_, n, made);
      return {};
    }
    if (!made->output()->type().quantization) {
      return error(Code::invalid_argument, "the quantized form makes {}, expected codes with a scale in the type",
                   to_string(made->output()->type()));
    }
    AOQ_ASSIGN(Node * dq, graph_.create(Op::dequantize, {made->output()}, {}, n));
    dq->scope = behind->scope;
    dq->origins = behind->origins;
    graph_.replace_uses(behind->output(), dq->output());
    graph_.erase(behind);
    graph_.replace_uses(n->output(), dq->output());
    return {};
  }

  Graph& graph_;
  const Recipe& recipe_;
  const QParamsOf& qparams_of_;
};

}  // namespace

Result<bool> is_recurrent_custom_module(const Recipe& recipe, const Node& node) {
  for (const CustomModule& custom : recipe.custom.custom_modules) {
    const std::string& type = custom.float_class;
    if (type != node.scope.type || custom.mode != QuantMode::static_quantization) continue;
    if (custom.observed_class == "quantizable." + type && custom.quantized_class == "quantized." + type) return true;
    return error(ErrorId::recipe_invalid,
                 "{}: custom module {} becomes {} and {}, expected quantizable.{} and quantized.{}", module_of(node),
                 type, custom.observed_class, custom.quantized_class, type, type);
  }
  return false;
}

bool is_observed_custom_module(const Recipe& recipe, const Node& node) {
  return custom_with(recipe, node, &CustomModule::observed_class) != nullptr;
}

Result<Node*> quantize_custom_module(Graph& graph, Node* node, const Recipe& recipe, const QParamsOf& qparams_of) {
  const CustomModule* custom = custom_with(recipe, *node, &CustomModule::observed_class);
  if (custom == nullptr) return error(Code::invalid_argument, "{} is no observed custom module", describe(*node));
  const std::string module = module_of(*node);
  Result<Node*> made = CustomConversion(graph, recipe, qparams_of).convert(node, *custom);
  if (!made.ok()) return std::move(made).status().with_context(module);
  return made;
}

}  // namespace aoq::fx
