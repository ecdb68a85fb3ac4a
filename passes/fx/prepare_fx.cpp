// prepare_fx: which units work on codes, and the observers that this needs.
//
//  1. Units are matched from the last to the first, longer patterns first; a match claims its units. A match without a
//     qconfig, or with one that the backend does not support, is left in float.
//  2. In the order of the graph the inputs of a match's first unit are observed where they are still float, and the
//     result of its last unit; a dynamic qconfig observes the input only.
//  3. Units that share their input's observer (reshape, pools, cat, ...) make their own observer stand for that one.
//
//  4. An LSTM or GRU that the recipe has as a custom module is observed inside (static_recurrent.h): x first, then the
//     states; its results are codes with scales of its own.
//
// Observers are named activation_post_process_<n> in the order they are made, and lie right behind what they observe.
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/nearest_name.h"
#include "ir/nn/tracer.h"
#include "passes/fx/custom_module.h"
#include "passes/fx/leaves.h"
#include "passes/fx/match_units.h"
#include "passes/fx/standalone.h"
#include "passes/fx/workflow.h"
#include "passes/quantize/check_recipe.h"
#include "passes/quantize/static_recurrent.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

using namespace rewrite;

struct Match {
  int first = 0, last = 0;
  const QConfig* qconfig = nullptr;
  bool is_dynamic = false, is_shared = false, is_weight_only = false;
  std::optional<InnerForm> recurrent = {};  // of a statically quantized LSTM or GRU
};

bool is_weighted(const Node& n) {
  return is_one_of(n, {Op::conv, Op::conv_transpose, Op::linear});
}

bool is_float(const Value* v) {
  return v != nullptr && v->type().dtype == DType::f32 && !v->type().quantization;
}

// Whether an operand is data rather than a weight, a bias or a statistic.
bool is_activation(const Node& n, std::size_t operand) {
  if (is_weighted(n)) return operand == 0 || operand == 3;
  if (is_recurrent(n)) return operand == 0;
  if (is_one_of(n, {Op::layer_norm, Op::group_norm, Op::instance_norm, Op::batch_norm, Op::prelu})) return operand == 0;
  return true;
}

class FxPreparation {
 public:
  struct Options {
    BackendConfig config;
    const std::vector<StandaloneModule>& standalone;
  };
  FxPreparation(Graph& graph, const Recipe& recipe, Options options)
      : graph_(graph),
        recipe_(recipe),
        config_(std::move(options.config)),
        standalone_(options.standalone),
        units_(graph) {}

  Status run() {
    AOQ_TRY(find_qconfigs());
    AOQ_TRY(find_matches());
    for (std::size_t i = 0; i < units_.all().size(); ++i) AOQ_TRY(visit(static_cast<int>(i)));
    AOQ_TRY(observe_results());
    name_scopes();
    mark();
    return observe_recurrent_values();
  }

 private:
  const Unit& unit(int i) const { return units_.all()[static_cast<std::size_t>(i)]; }

  // ---- what the recipe wants

  Status find_qconfigs() {
    const std::vector<bool> between = between_stubs();
    std::map<std::pair<std::string, std::string>, std::int64_t> counts;
    for (std::size_t i = 0; i < units_.all().size(); ++i) {
      const Unit& u = units_.all()[i];
      QConfigMatch found;
      if (u.is_call()) {
        found = match_qconfig(recipe_, *u.main());
        const OrderRule* rule = order_rule(u, counts);
        if (rule != nullptr) {
          found = {rule->qconfig ? &*rule->qconfig : nullptr,
                   fmt::format("module_name_object_type_order \"{}\", {}, {}", rule->module, rule->object_type,
                               rule->index)};
        }
        if (!between.empty() && !between[i]) found = {nullptr, "it is not between QuantStub and DeQuantStub"};
      } else if (u.kind == UnitKind::get_attr) {
        found.qconfig = recipe_.global ? &*recipe_.global : nullptr;
      }
      qconfigs_.push_back(found);
    }
    return {};
  }

  // In a model with stubs made by hand only what lies between them is quantized. Empty where there are none.
  std::vector<bool> between_stubs() const {
    std::vector<bool> inside(units_.all().size());
    bool has_stubs = false;
    for (std::size_t i = 0; i < inside.size(); ++i) {
      const Unit& u = units_.all()[i];
      if (!u.is_call()) continue;
      if (u.scope().type == "QuantStub" && u.scope().callee.empty()) {
        inside[i] = has_stubs = true;
        continue;
      }
      if (u.scope().type == "DeQuantStub" && u.scope().callee.empty()) continue;
      for (const Value* v : u.inputs) {
        const int maker = units_.of(v);
        if (maker >= 0 && inside[static_cast<std::size_t>(maker)]) inside[i] = true;
      }
    }
    return has_stubs ? inside : std::vector<bool>();
  }

  const OrderRule* order_rule(const Unit& u, std::map<std::pair<std::string, std::string>, std::int64_t>& counts) {
    if (recipe_.module_name_object_type_order.empty()) return nullptr;
    std::string owner = u.scope().path;
    if (u.kind == UnitKind::call_module) {
      const std::size_t dot = owner.find_last_of('.');
      owner = dot == std::string::npos ? std::string() : owner.substr(0, dot);
    }
    const OrderRule* found = nullptr;
    for (const std::string& key : u.keys()) {
      const std::int64_t index = counts[{owner, key}]++;
      for (const OrderRule& rule : recipe_.module_name_object_type_order) {
        if (rule.module == owner && rule.object_type == key && rule.index == index) found = &rule;
      }
    }
    return found;
  }

  // ---- what the backend does

  Status find_matches() {
    match_of_.assign(units_.all().size(), -1);
    reasons_.resize(units_.all().size());
    const std::vector<const BackendPattern*> patterns = by_length(config_, Fused::not_at_all);
    for (int last = static_cast<int>(units_.all().size()) - 1; last >= 0; --last) {
      const bool is_taken = match_of_[static_cast<std::size_t>(last)] >= 0;
      if (is_taken || !unit(last).is_call() || standalone(unit(last)) != nullptr) continue;
      if (const CustomModule* custom = custom_of(unit(last))) {
        AOQ_TRY(match_custom(last, *custom));
        continue;
      }
      AOQ_ASSIGN(const bool is_recurrent_module, match_recurrent(last));
      if (is_recurrent_module) continue;
      for (const BackendPattern* p : patterns) {
        const std::vector<int> chain = chain_ending_at(units_, *p, last);
        const bool is_free = std::none_of(chain.begin(), chain.end(), [&](int i) {
          return match_of_[static_cast<std::size_t>(i)] >= 0 || custom_of(unit(i)) != nullptr;
        });
        if (chain.empty() || !is_free) continue;
        AOQ_TRY(match(*p, chain));
        break;
      }
    }
    return {};
  }

  Status match(const BackendPattern& pattern, const std::vector<int>& chain) {
    const QConfig* qconfig = qconfigs_[static_cast<std::size_t>(chain[0])].qconfig;
    if (qconfig == nullptr || pattern.observation == Observation::not_observed) return {};
    Node* n = unit(chain[0]).main();
    const bool has_weight = is_weighted(*n) || is_recurrent(*n) || is_embedding(*n);
    Match m{chain.front(), chain.back(), qconfig, is_dynamic_qconfig(*qconfig), false, false};
    m.is_shared = pattern.observation == Observation::shared || qconfig->activation.kind == "reuse_input" ||
                  (pattern.observation == Observation::by_tensors && tensor_count(*n) < 2);
    m.is_weight_only = is_embedding(*n) || qconfig->activation.dtype == DType::f32;
    Status supported = supports(pattern, *qconfig, has_weight);
    if (supported.ok() && is_weighted(*n)) supported = check_weight(*n);
    if (!supported.ok()) {
      for (int i : chain) reasons_[static_cast<std::size_t>(i)] = std::string(supported.message());
      return {};
    }
    for (int i : chain) match_of_[static_cast<std::size_t>(i)] = static_cast<int>(matches_.size());
    matches_.push_back(m);
    return {};
  }

  std::size_t tensor_count(const Node& n) const {
    std::size_t count = 0;
    for (const Value* v : n.inputs()) count += v != nullptr && units_.of(v) >= 0;
    return count;
  }

  static Status check_weight(const Node& n) {
    const Tensor* w = constant_tensor(n.input(1));
    if (w == nullptr || w->dtype() != DType::f32) return error(Code::unsupported, "its weight is not a float constant");
    return {};
  }

  const CustomModule* custom_of(const Unit& u) const {
    if (!u.main()->is(Op::region)) return nullptr;
    const std::string& name = u.main()->attributes().string("class");
    for (const CustomModule& c : recipe_.custom.custom_modules) {
      if (c.observed_class == name) return &c;
    }
    return nullptr;
  }

  // An LSTM or GRU with a static qconfig that the recipe has as a custom module.
  Result<bool> match_recurrent(int i) {
    const Node& n = *unit(i).main();
    if (!is_recurrent(n) || !unit(i).scope().callee.empty()) return false;
    const QConfig* qconfig = qconfigs_[static_cast<std::size_t>(i)].qconfig;
    if (qconfig == nullptr || weight_form(*qconfig) != WeightForm::static_int8) return false;
    AOQ_ASSIGN(const bool is_custom, is_recurrent_custom_module(recipe_, n));
    if (!is_custom) return false;
    std::string& reason = reasons_[static_cast<std::size_t>(i)];
    for (const Node* m : unit(i).nodes) {
      if (is_recurrent(*m) && reason.empty()) reason = why_no_static_form(*m, *qconfig);
      for (std::size_t k = 1; is_recurrent(*m) && k <= 2 && reason.empty(); ++k) {
        const Tensor* w = constant_tensor(m->input(k));
        if (w == nullptr || w->dtype() != DType::f32) reason = "its weight is not a float constant";
      }
    }
    if (!reason.empty()) return true;
    Match m{.first = i, .last = i, .qconfig = qconfig};
    m.recurrent = inner_form(*qconfig, InnerForm::codes);
    match_of_[static_cast<std::size_t>(i)] = static_cast<int>(matches_.size());
    matches_.push_back(m);
    return true;
  }

  const Match* match_of(int i) const {
    if (i < 0 || match_of_[static_cast<std::size_t>(i)] < 0) return nullptr;
    return &matches_[static_cast<std::size_t>(match_of_[static_cast<std::size_t>(i)])];
  }

  // Whether a value is the result of a recurrent module whose results are codes.
  bool has_own_scale(const Value* v) const {
    const Match* m = match_of(units_.of(v));
    return m != nullptr && m->recurrent == InnerForm::codes;
  }

  Status match_custom(int i, const CustomModule& custom) {
    const QConfig* qconfig = qconfigs_[static_cast<std::size_t>(i)].qconfig;
    if (qconfig == nullptr) return {};
    Match m{
        i, i, qconfig, custom.mode == QuantMode::dynamic_quantization, false, custom.mode == QuantMode::weight_only};
    match_of_[static_cast<std::size_t>(i)] = static_cast<int>(matches_.size());
    matches_.push_back(m);
    return {};
  }

  // ---- observers

  Status visit(int i) {
    if (const StandaloneModule* module = standalone(unit(i))) return visit_standalone(i, *module);
    const int index = match_of_[static_cast<std::size_t>(i)];
    if (index < 0) return {};
    const Match& m = matches_[static_cast<std::size_t>(index)];
    if (m.recurrent) return visit_recurrent(i, m);
    if (i == m.first) {
      for (Node* n : unit(i).nodes) {
        for (std::size_t k = 0; k < n->inputs().size(); ++k) AOQ_TRY(visit_operand(n, k, i, m));
      }
    }
    const bool observes_result = i == m.last && !m.is_dynamic && !m.is_weight_only && !unit(i).results.empty();
    if (!observes_result || !is_float(unit(i).results[0])) return {};
    AOQ_ASSIGN(Node * o, observe(unit(i).results[0], m.qconfig->activation));
    repoint(unit(i).results[0], o);
    return m.is_shared ? share(i, o) : Status();
  }

  const StandaloneModule* standalone(const Unit& u) const { return standalone_of(standalone_, *u.main()); }

  // What a standalone module takes as codes is observed in front of it, by the qconfig that it has here. Its results
  // are observed inside.
  Status visit_standalone(int i, const StandaloneModule& module) {
    const QConfig* qconfig = qconfigs_[static_cast<std::size_t>(i)].qconfig;
    Node* n = unit(i).main();
    for (std::size_t k = 0; k < n->inputs().size(); ++k) {
      if (!module.takes_codes(k)) continue;
      const Match as_codes{.first = i, .last = i, .qconfig = qconfig};
      if (qconfig != nullptr && is_float(n->input(k))) AOQ_TRY(observe_operand(n, k, as_codes));
      const Value* v = n->input(k);
      if (v->def()->is(Op::observe) || quantized_input(v) || has_own_scale(v) || counts_as_codes(v)) continue;
      return error(ErrorId::recipe_invalid,
                   "standalone module \"{}\" takes input {} as codes, but around it that is float: {}", module.path, k,
                   qconfigs_[static_cast<std::size_t>(i)].because);
    }
    return {};
  }

  // The result of a standalone module with a static qconfig, or what shares its observer: nobody observes it again, as
  // in PyTorch.
  bool counts_as_codes(const Value* v) const {
    if (unobserved_.contains(v)) return true;
    const int maker = units_.of(v);
    if (maker < 0 || standalone(unit(maker)) == nullptr) return false;
    const QConfig* qconfig = qconfigs_[static_cast<std::size_t>(maker)].qconfig;
    return qconfig != nullptr && is_integer(qconfig->activation.dtype) && !is_dynamic_qconfig(*qconfig);
  }

  Status visit_recurrent(int i, const Match& m) {
    for (const bool of_state : {false, true}) {
      if (of_state && m.recurrent == InnerForm::floats) break;
      for (Node* n : unit(i).nodes) {
        for (std::size_t k = 0; k < n->inputs().size(); ++k) {
          Value* v = n->input(k);
          const bool is_data = v != nullptr && units_.of(v) >= 0 && units_.of(v) != i && is_float(v);
          const bool is_state = n->is(Op::slice) || (is_recurrent(*n) && k >= 5);
          if (is_data && is_state == of_state) AOQ_TRY(observe_operand(n, k, m));
        }
      }
    }
    if (m.recurrent == InnerForm::codes) return {};
    for (Node* n : unit(i).nodes) {
      for (std::size_t k = 1; is_recurrent(*n) && k <= 2; ++k) AOQ_TRY(observe_weight(n, k, m));
    }
    return {};
  }

  // Last, as units hold nodes that this replaces.
  Status observe_recurrent_values() {
    for (std::size_t i = 0; i < units_.all().size(); ++i) {
      const Match* m = match_of(static_cast<int>(i));
      if (m == nullptr || !m->recurrent) continue;
      std::int64_t layer = 0;
      for (Node* n : unit(static_cast<int>(i)).nodes) {
        if (!is_recurrent(*n)) continue;
        const std::string place = recurrent_place(n->scope.path, layer++);
        AOQ_TRY(m->recurrent == InnerForm::codes ? observe_inner_values(graph_, n, *m->qconfig, place)
                                                 : observe_state(graph_, n, *m->qconfig, place));
      }
    }
    return {};
  }

  Status visit_operand(Node* n, std::size_t k, int i, const Match& m) {
    Value* v = n->input(k);
    if (v == nullptr || units_.of(v) == i) return {};
    // What a stub reads is float by intention.
    if (n->scope.type == "QuantStub") return {};
    if ((is_weighted(*n) && k == 1) || (is_embedding(*n) && k == 0) || (is_recurrent(*n) && (k == 1 || k == 2)))
      return observe_weight(n, k, m);
    if (m.is_weight_only || !is_float(v) || !is_activation(*n, k)) return {};
    // A number beside a tensor is no tensor.
    const bool is_made = v->def()->is(Op::observe) || units_.of(v) >= 0;
    if (!is_made || v->def()->is(Op::observe)) return {};
    if (m.is_dynamic && k != 0) return {};
    return observe_operand(n, k, m);
  }

  // One observer for each value and kind of codes.
  Status observe_operand(Node* n, std::size_t k, const Match& m) {
    Value* v = n->input(k);
    if (v->def()->is(Op::observe) || quantized_input(v) || has_own_scale(v)) return {};
    if (counts_as_codes(v) && !m.is_dynamic) return {};
    ObserverSpec spec = m.qconfig->activation;
    if (spec.kind == "reuse_input") return {};
    // On these engines u8 x s8 sums need the smaller range (C.6).
    if (m.is_dynamic) spec.reduce_range = config_.name == "fbgemm" || config_.name == "x86";
    const std::string key = fmt::format("{}|{}", dtype_name(spec.dtype), m.is_dynamic);
    Value*& observed = observed_[{v, key}];
    if (observed == nullptr) {
      AOQ_ASSIGN(Node * o, observe(v, spec));
      observed = o->output();
    }
    graph_.set_input(n, k, observed);
    return {};
  }

  bool quantized_input(const Value* v) const {
    if (!v->def()->is(Op::input)) return false;
    const std::vector<Node*> inputs = graph_.input_nodes();
    for (const CustomConfig::QuantizedInput& q : recipe_.custom.quantized_inputs) {
      const auto at = static_cast<std::size_t>(q.index);
      if (at < inputs.size() && inputs[at] == v->def()) return true;
    }
    return false;
  }

  // A module's weight is observed inside the module, a function's as a value of the graph.
  Status observe_weight(Node* n, std::size_t k, const Match& m) {
    Value* v = n->input(k);
    if (v->def()->is(Op::observe) || constant_tensor(v) == nullptr) return {};
    if (units_.of(v) >= 0) {
      AOQ_ASSIGN(Node * o, observe(v, m.qconfig->weight));
      graph_.set_input(n, k, o->output());
      return {};
    }
    const std::string name = v->def()->label();
    Attributes a{{"observer", name}, {"spec", print_observer_spec(m.qconfig->weight)}};
    AOQ_ASSIGN(Node * o, graph_.create(Op::observe, {v}, std::move(a), n));
    o->scope = n->scope;
    o->origins = {name};
    graph_.set_input(n, k, o->output());
    return {};
  }

  Result<Node*> observe(Value* v, const ObserverSpec& spec) {
    const std::string name = fmt::format("activation_post_process_{}", next_++);
    Attributes a{{"observer", name}, {"spec", print_observer_spec(spec)}};
    Node* behind = units_.of(v) >= 0 ? unit(units_.of(v)).nodes.back() : v->def();
    AOQ_ASSIGN(Node * o, graph_.create(Op::observe, {v}, std::move(a), behind->next()));
    o->origins = {name};
    return o;
  }

  // Every reader of the value reads what is observed.
  void repoint(Value* v, Node* o) {
    const std::vector<Use> uses = v->uses();
    for (const Use& use : uses) {
      const bool is_inner = use.user != o && units_.of(use.user) >= 0 && units_.of(use.user) == units_.of(v);
      if (use.user != o && !is_inner) graph_.set_input(use.user, static_cast<std::size_t>(use.operand), o->output());
    }
  }

  // The observer that an operand stands for: its own, or that of what it is made from without one.
  Node* observer_behind(const Value* v) const {
    for (int guard = 0; guard < 10000; ++guard) {
      Node* def = v->def();
      if (def->is(Op::observe)) return def;
      if (def->is(Op::input) || def->inputs().empty() || def->input(0) == nullptr) return nullptr;
      v = def->input(0);
    }
    return nullptr;
  }

  Status share(int i, Node* result) {
    Node* n = unit(i).main();
    const Unit& last = unit(i);
    if (last.nodes.front() != n) n = last.nodes.front();
    Node* first = nullptr;
    for (std::size_t k = 0; k < n->inputs().size() && first == nullptr; ++k) {
      const Value* v = n->input(k);
      if (v == nullptr || (units_.of(v) < 0 && !v->def()->is(Op::observe))) continue;
      first = observer_behind(v);
      if (first == nullptr) break;
    }
    if (first == nullptr) {
      unobserved_.insert(result->input(0));
      graph_.replace_uses(result->output(), result->input(0));
      graph_.erase(result);
      return {};
    }
    if (n->is(Op::concat)) {
      for (const Value* v : n->inputs()) {
        if (Node* other = observer_behind(v)) copy_observer(*first, other);
      }
    }
    copy_observer(*first, result);
    return {};
  }

  static void copy_observer(const Node& from, Node* to) {
    to->set_attribute("observer", from.attributes().string("observer"));
    to->set_attribute("spec", from.attributes().string("spec"));
  }

  Status observe_results() {
    Node* output = graph_.output_node();
    for (std::int64_t index : recipe_.custom.quantized_outputs) {
      const auto k = static_cast<std::size_t>(index);
      if (index < 0 || k >= output->inputs().size()) {
        return error(ErrorId::recipe_invalid, "quantized_outputs: {} is no result; the graph has {}", index,
                     output->inputs().size());
      }
      Value* v = output->input(k);
      if (v->def()->is(Op::observe) || quantized_input(v) || has_own_scale(v) || counts_as_codes(v)) continue;
      const int maker = units_.of(v);
      const QConfig* qconfig = maker >= 0 ? qconfigs_[static_cast<std::size_t>(maker)].qconfig : nullptr;
      if (qconfig == nullptr && recipe_.global) qconfig = &*recipe_.global;
      if (qconfig == nullptr) {
        return error(ErrorId::recipe_invalid, "quantized_outputs: result {} has no qconfig to be quantized with",
                     index);
      }
      AOQ_ASSIGN(Node * o, observe(v, qconfig->activation));
      graph_.set_input(output, k, o->output());
    }
    return {};
  }

  // Under which name a scale will be kept: the reader's input where the producer has no qconfig, else the producer's.
  void name_scopes() {
    for (Node* o : graph_.nodes()) {
      if (!o->is(Op::observe) || !o->scope.path.empty() || !o->scope.type.empty()) continue;
      const int maker = units_.of(o->input(0));
      const bool at_input = maker < 0 || qconfigs_[static_cast<std::size_t>(maker)].qconfig == nullptr;
      int named = maker;
      if (at_input) {
        const std::vector<int> readers = units_.readers(o->output());
        named = readers.empty() ? maker : readers[0];
        for (int r : readers) {
          if (unit(r).scope().callee != "F.linear") continue;
          named = r;
          break;
        }
      }
      const bool has_path = named >= 0 && unit(named).is_call();
      o->scope = {has_path ? unit(named).scope().path : std::string(), "Observer", at_input ? "input" : "output"};
    }
  }

  void mark() {
    for (std::size_t i = 0; i < units_.all().size(); ++i) {
      const Unit& u = units_.all()[i];
      if (!u.is_call()) continue;
      for (Node* n : u.nodes) {
        if (match_of_[i] >= 0) {
          const Match& m = matches_[static_cast<std::size_t>(match_of_[i])];
          mark_form(n, *m.qconfig);
        } else if (!reasons_[i].empty()) {
          n->reason = reasons_[i];
        } else if (qconfigs_[i].qconfig == nullptr) {
          n->reason = "left in float by the recipe: " + qconfigs_[i].because;
        } else {
          n->reason = fmt::format("the backend {} has no pattern for {}", config_.name, u.keys()[0]);
        }
      }
    }
  }

  static void mark_form(Node* n, const QConfig& qconfig) {
    const WeightForm form = weight_form(qconfig);
    n->requested = form == WeightForm::rows && qconfig.weight.dtype == DType::u4 ? "int4" : "int8";
    if (form != WeightForm::float16 && form != WeightForm::weight_only) return;
    n->requested = kFloatArithmetic;
    n->reason = form == WeightForm::float16 ? "its weights are rounded to float16, it computes in float32"
                                            : "weight-only: its weight is int8, it computes in float";
  }

  Graph& graph_;
  const Recipe& recipe_;
  const BackendConfig config_;
  const std::vector<StandaloneModule>& standalone_;
  const Units units_;
  std::vector<QConfigMatch> qconfigs_;
  std::vector<int> match_of_;
  std::vector<std::string> reasons_;
  std::vector<Match> matches_;
  std::map<std::pair<const Value*, std::string>, Value*> observed_;
  std::set<const Value*> unobserved_;  // whose shared observer does not exist
  int next_ = 0;
};

}  // namespace

Result<BackendConfig> backend_of(const Recipe& recipe) {
  if (!recipe.backend.starts_with('{')) return backend_config(recipe.backend);
  AOQ_ASSIGN(const Json json, parse_json(recipe.backend));
  return backend_config_from_json(json);
}

namespace {

// The graph's metadata goes along whole; what the recipe counts on must be in it.
Status check_attributes(const Graph& graph, const Recipe& recipe) {
  std::vector<std::string> known;
  for (const auto& [key, value] : graph.metadata) known.push_back(key);
  for (const std::string& key : recipe.custom.preserved_attributes) {
    if (graph.metadata.contains(key)) continue;
    return error(ErrorId::recipe_invalid, "preserved_attributes: the graph has no attribute \"{}\"{}", key,
                 did_you_mean(key, known));
  }
  return {};
}

Status prepare_standalone(StandaloneModule& module) {
  Status status = check_names(module.graph, *module.recipe, nullptr);
  if (status.ok()) status = prepare_fx(module.graph, *module.recipe);
  return std::move(status).with_context(fmt::format("standalone module \"{}\"", module.path));
}

}  // namespace

Status prepare_fx(Graph& graph, const Recipe& recipe) {
  AOQ_ASSIGN(BackendConfig config, backend_of(recipe));
  AOQ_TRY(check_attributes(graph, recipe));
  AOQ_ASSIGN(std::vector<StandaloneModule> standalone, take_out_standalone(graph, recipe));
  for (StandaloneModule& module : standalone) AOQ_TRY(prepare_standalone(module));
  AOQ_TRY(mark_leaves(graph, recipe.custom));
  AOQ_TRY(observe_custom_modules(graph, recipe));
  AOQ_TRY(FxPreparation(graph, recipe, {std::move(config), standalone}).run());
  AOQ_TRY(put_back_standalone(graph, standalone));
  graph.metadata.erase(nn::kModuleClasses);
  return {};
}

}  // namespace aoq::fx
