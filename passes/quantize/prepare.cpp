// prepare: decides what will be integer and marks the values that need a scale.
//
//   conv(x, w)   =>   conv(observe(x), w)         and the node is marked `requested = "int8"`
//
// What is quantized = legal (the op table) and wanted (the recipe); what the target offers is asked when lowering:
//
//  1. Anchors are the weighted ops (conv, linear) with a constant weight and a qconfig. They do the arithmetic that
//     integers pay for, and every other decision serves them.
//  2. A value is *wanted* as codes when an anchor reads it.
//  3. Between anchors an op that can work on codes (its quantization rule says so) joins them when its result is wanted
//     and its operands are codes anyway: it saves a dequantize and a quantize. An op that is not between anchors stays
//     in float: spelled-out one-hot, LayerNorm or GELU code is never touched, whatever the graph.
//     A linear or recurrent op whose qconfig is dynamic is an anchor by itself: its input is quantized in front of it,
//     its result is float. Weight-only and float16 qconfigs touch the weights alone (weights.h).
//     A statically quantized lstm or gru is an anchor for x; what becomes of its inside static_recurrent.h says.
//  4. Every wanted value gets one observer. Values that must share a scale (the operands and the result of a concat, a
//     max pool, a reshape, ...) share one.
//
// A recipe that names a backend is PyTorch FX's instead (passes/fx/prepare_fx.cpp).
//
// Readers that stay in float read the value itself where its producer is a float op, and the dequantized codes where it
// is an integer op.
#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "ir/error_id.h"
#include "passes/fx/workflow.h"
#include "passes/quantize/check_recipe.h"
#include "passes/quantize/recipe.h"
#include "passes/quantize/static_recurrent.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

// The operands that must be codes for the node to work on codes.
std::vector<std::size_t> activation_operands(const Node& n) {
  if (is_one_of(n, {Op::conv, Op::linear})) {
    return n.input(3) != nullptr ? std::vector<std::size_t>{0, 3} : std::vector<std::size_t>{0};
  }
  if (n.is(Op::matmul)) return {0, 1};
  if (is_one_of(n, {Op::add, Op::mul})) {
    // A constant that is one number belongs to the function.
    double number = 0;
    if (scalar_constant(n.input(0), &number)) return {1};
    if (scalar_constant(n.input(1), &number)) return {0};
    return {0, 1};
  }
  if (n.is(Op::concat)) {
    std::vector<std::size_t> all(n.inputs().size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    return all;
  }
  return {0};
}

bool is_float_value(const Value* v) {
  return v->type().dtype == DType::f32 && !v->type().quantization;
}

class Preparation {
 public:
  Preparation(Graph& graph, const Recipe& recipe) : graph_(graph), recipe_(recipe) {}

  Status run() {
    find_anchors();
    grow();
    share();
    AOQ_TRY(share_reused());
    for (Node* n : graph_.nodes()) {
      if (tables_.contains(n)) continue;
      if (is_integer_node(n) || is_dynamic_node(n)) {
        n->requested = "int8";
      } else if (n->reason.empty() && !n->def().has_trait(kStructural)) {
        n->reason = why_float(*n);
      }
    }
    AOQ_TRY(insert_observers());
    AOQ_TRY(insert_dynamic_observers());
    return observe_recurrent_values();
  }

 private:
  bool is_integer_node(const Node* n) const { return anchors_.contains(n) || members_.contains(n); }

  bool is_dynamic_node(const Node* n) const {
    return std::any_of(dynamic_.begin(), dynamic_.end(), [&](const auto& entry) { return entry.first == n; });
  }

  void find_anchors() {
    for (Node* n : graph_.nodes()) {
      if (is_declined(*n)) continue;
      QConfigMatch match = match_qconfig(recipe_, *n);
      if (is_one_of(*n, {Op::conv, Op::linear})) {
        find_dot(n, match);
      } else if (match.qconfig == nullptr) {
        continue;
      } else if (is_recurrent(*n)) {
        find_recurrent(n, *match.qconfig);
      } else if (is_embedding(*n)) {
        find_embedding(n, *match.qconfig);
      }
    }
  }

  void find_dot(Node* n, const QConfigMatch& match) {
    if (match.qconfig == nullptr) {
      // A configuration that could not have the layer has said why.
      if (n->requested.empty()) n->reason = "left in float by the recipe: " + match.because;
      return;
    }
    n->requested = "int8";
    n->reason = why_no_codes(*n, 1);
    if (!n->reason.empty()) return;
    const WeightForm form = weight_form(*match.qconfig);
    if (form == WeightForm::static_int8) {
      anchors_[n] = match.qconfig;
      wanted_.insert(n->input(0));
    } else if (form == WeightForm::dynamic_int8 && n->is(Op::linear)) {
      dynamic_.emplace_back(n, match.qconfig);
    } else if (form == WeightForm::weight_only) {
      keep_float_arithmetic(n, "weight-only: its weight is int8, it computes in float");
    } else if (form == WeightForm::float16 && n->is(Op::linear)) {
      find_float16(n, *match.qconfig);
    } else {
      n->requested.clear();
      n->reason = fmt::format("{} has no {} form; the recipe asks for it", n->def().name, name_of(form));
    }
  }

  // Why the weights at inputs 1 to `weights`, the bias behind them and the input cannot be turned into codes.
  static std::string why_no_codes(const Node& n, std::size_t weights) {
    for (std::size_t i = 1; i <= weights; ++i) {
      const Tensor* weight = constant_tensor(n.input(i));
      if (weight == nullptr || weight->dtype() != DType::f32) return "its weight is not a float constant";
    }
    const Value* bias = n.input(weights + 1);
    if (bias != nullptr && constant_tensor(bias) == nullptr) return "its bias is not a constant";
    return is_float_value(n.input(0)) ? "" : "its input is not a float value";
  }

  static const char* name_of(WeightForm form) {
    switch (form) {
      case WeightForm::static_int8:
        return "static";
      case WeightForm::dynamic_int8:
        return "dynamic";
      case WeightForm::weight_only:
        return "weight-only";
      case WeightForm::rows:
        return "quantized-row";
      case WeightForm::float16:
        break;
    }
    return "float16";
  }

  void keep_float_arithmetic(Node* n, std::string reason) {
    n->requested = kFloatArithmetic;
    n->reason = std::move(reason);
  }

  void find_float16(Node* n, const QConfig& config) {
    if (config.weight.dtype == DType::f16) {
      return keep_float_arithmetic(n, "its weights are rounded to float16, it computes in float32");
    }
    n->requested.clear();
    n->reason = fmt::format("weights have no {} form, only float16", dtype_name(config.weight.dtype));
  }

  // A recurrent op quantizes its state by itself in every step, so only a scale for all of x and u8 fit.
  void find_recurrent(Node* n, const QConfig& config) {
    const WeightForm form = weight_form(config);
    if (form == WeightForm::static_int8) return find_static_recurrent(n, config);
    const ObserverSpec& x = config.activation;
    std::string why = why_no_codes(*n, 2);
    if (why.empty() && form == WeightForm::dynamic_int8 &&
        (x.dtype != DType::u8 || x.qscheme != QScheme::per_tensor_affine ||
         x.granularity.kind == Granularity::Kind::token)) {
      why = fmt::format("{} has no dynamic form with these activations, only with affine u8 per tensor", n->def().name);
    }
    if (!why.empty()) {
      n->reason = std::move(why);
    } else if (form == WeightForm::dynamic_int8) {
      dynamic_.emplace_back(n, &config);
    } else if (form == WeightForm::float16) {
      find_float16(n, config);
    } else {
      n->reason = fmt::format("{} has no {} form", n->def().name, name_of(form));
    }
  }

  void find_static_recurrent(Node* n, const QConfig& config) {
    n->reason = why_no_codes(*n, 2);
    if (n->reason.empty()) n->reason = why_no_static_form(*n, config);
    if (!n->reason.empty()) return;
    anchors_[n] = &config;
    wanted_.insert(n->input(0));
    static_.push_back(n);
  }

  void find_embedding(Node* n, const QConfig& config) {
    const bool is_maximum = n->is(Op::embedding_bag) && n->attributes().string("mode") == "max";
    if (weight_form(config) == WeightForm::rows && is_maximum) {
      keep_float_arithmetic(n, "a maximum has no form on quantized rows: it reads the dequantized table");
      tables_.insert(n);
    } else if (weight_form(config) == WeightForm::rows) {
      n->requested = config.weight.dtype == DType::u4 ? "int4" : "int8";
      tables_.insert(n);
    } else if (weight_form(config) == WeightForm::weight_only) {
      n->reason = "tables are quantized by per_channel_affine_float_qparams only";
    }
  }

  // Rule 3, backwards from what is wanted until nothing changes; then drops what turned out to lack codes.
  void grow() {
    for (bool changed = true; changed;) {
      changed = false;
      for (Node* n = graph_.last(); n != nullptr; n = n->previous()) changed = join(n) || changed;
      for (Node* n : graph_.nodes()) changed = want_residual(n) || changed;
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (Node* n : graph_.nodes()) {
        if (members_.contains(n) && !operands_are_codes(*n)) {
          members_.erase(n);
          changed = true;
        }
      }
    }
    rebuild_wanted();
  }

  bool join(Node* n) {
    if (is_integer_node(n) || n->output_count() != 1 || !wanted_.contains(n->output()) || !may_join(*n)) return false;
    for (std::size_t i : activation_operands(*n)) {
      if (!is_codes(n->input(i)) && !could_be_codes(n->input(i))) return false;
    }
    members_.insert(n);
    for (std::size_t i : activation_operands(*n)) wanted_.insert(n->input(i));
    return true;
  }

  // The recipe may forbid it; the op table and the result type must allow it.
  bool may_join(const Node& n) const {
    if (is_declined(n) || !is_float_value(n.output())) return false;
    QConfigMatch match = match_qconfig(recipe_, n);
    if (match.qconfig == nullptr) return false;
    QuantRule rule = n.def().rule;
    if (n.is(Op::pad)) return n.attributes().string("mode") != "wrap";
    if (n.is(Op::resize)) return n.attributes().string("mode") == "nearest";
    if (n.is(Op::reduce_mean)) return is_plane_mean(n);
    if (is_one_of(n, {Op::add, Op::mul, Op::avg_pool, Op::concat, Op::max_pool})) return true;
    if (rule == QuantRule::passthrough) return true;
    return n.def().has_trait(kElementwise) && n.inputs().size() == 1 && n.input(0)->type().dtype == DType::f32;
  }

  // Why a node is none of the integer ones; empty where it has nothing to do with floats.
  std::string why_float(const Node& n) const {
    if (is_one_of(n, {Op::linear_weight_only, Op::linear_dynamic})) return n.reason;
    bool has_floats = n.output_count() > 0 && is_float_value(n.output());
    for (const Value* v : n.inputs()) has_floats = has_floats || (v != nullptr && is_float_value(v));
    if (!has_floats) return "";
    QConfigMatch match = match_qconfig(recipe_, n);
    if (match.qconfig == nullptr) return "left in float by the recipe: " + match.because;
    if (n.def().rule == QuantRule::float_only) return fmt::format("{} has no integer form", n.def().name);
    if (n.output_count() != 1 || !may_join(n)) return fmt::format("this {} has no integer form", n.def().name);
    for (std::size_t i : activation_operands(n)) {
      if (is_codes(n.input(i)) && is_integer_node(n.input(i)->def())) continue;
      return "what it reads is float: turning it into codes would cost more than it saves";
    }
    return "no integer op reads its result: turning it into codes and back would cost more than it saves";
  }

  static bool is_plane_mean(const Node& n) {
    std::size_t rank = n.input(0)->type().shape.size();
    return rank >= 3 && n.attributes().integers("axes").size() == rank - 2;
  }

  // A residual is added inside an anchor whose result is wanted, when the residual is codes or can be.
  bool want_residual(Node* n) {
    if (!anchors_.contains(n) || is_recurrent(*n) || n->input(3) == nullptr || !wanted_.contains(n->output()))
      return false;
    Value* residual = n->input(3);
    if (wanted_.contains(residual) || !could_be_codes(residual)) return false;
    return wanted_.insert(residual).second;
  }

  bool is_codes(const Value* v) const { return wanted_.contains(v); }
  // Made by an anchor or by an op that may join: a guess, which grow() checks at its end.
  bool could_be_codes(const Value* v) const {
    const Node* def = v->def();
    if (def->def().has_trait(kStructural)) return false;
    return anchors_.contains(def) || members_.contains(def) || may_join(*def);
  }

  bool operands_are_codes(const Node& n) const {
    for (std::size_t i : activation_operands(n)) {
      const Value* v = n.input(i);
      bool made_as_codes = is_integer_node(v->def());
      bool read_by_anchor = false;
      for (const Use& use : v->uses())
        read_by_anchor = read_by_anchor || (anchors_.contains(use.user) && use.operand == 0);
      if (!made_as_codes && !read_by_anchor) return false;
    }
    return true;
  }

  void rebuild_wanted() {
    wanted_.clear();
    for (const auto& [n, qconfig] : anchors_) wanted_.insert(n->input(0));
    for (const Node* n : members_) {
      for (std::size_t i : activation_operands(*n)) wanted_.insert(n->input(i));
      wanted_.insert(n->output());
    }
    for (const auto& [n, qconfig] : anchors_) {
      if (!is_recurrent(*n) && n->input(3) != nullptr && wanted_.contains(n->output()) &&
          is_integer_node(n->input(3)->def())) {
        wanted_.insert(n->input(3));
      }
    }
  }

  // ---- which values share an observer

  const Value* root(const Value* v) {
    while (parent_.contains(v) && parent_[v] != v) v = parent_[v];
    return v;
  }
  void unite(const Value* a, const Value* b) {
    if (root(a) != root(b)) parent_[root(b)] = root(a);
  }

  void share() {
    for (const Node* n : graph_.nodes()) {
      if (!members_.contains(n)) continue;
      bool same = n->def().rule == QuantRule::passthrough || is_one_of(*n, {Op::max_pool, Op::concat, Op::resize});
      if (!same) continue;
      for (std::size_t i : activation_operands(*n)) unite(n->input(i), n->output());
    }
  }

  // The results of ops whose qconfig says that they reuse their input's observer.
  Status share_reused() {
    for (const Node* n : graph_.nodes()) {
      if (n->output_count() != 1 || !wanted_.contains(n->output()) || n->def().has_trait(kStructural)) continue;
      const QConfigMatch match = match_qconfig(recipe_, *n);
      if (match.qconfig == nullptr || match.qconfig->activation.kind != "reuse_input") continue;
      if (!wanted_.contains(n->input(0))) return nothing_to_reuse(*n);
      unite(n->input(0), n->output());
    }
    return {};
  }

  static Status nothing_to_reuse(const Node& n) {
    return error(
        ErrorId::qconfig_unsupported,
        "{}{}: reuse_input shares the observer of the first input, which has none; give it an observer of its own",
        n.scope.path.empty() ? "" : "module \"" + n.scope.path + "\", ", describe(n));
  }

  // ---- observers

  const QConfig* config_of(const Value* v) const {
    for (const Use& use : v->uses()) {
      auto it = anchors_.find(use.user);
      if (it != anchors_.end() && it->second->activation.kind != "reuse_input") return it->second;
    }
    auto it = anchors_.find(v->def());
    if (it != anchors_.end()) return it->second;
    QConfigMatch match = match_qconfig(recipe_, *v->def());
    return match.qconfig;
  }

  std::string observer_name(const Value* v) {
    const Value* r = root(v);
    auto [it, inserted] = names_.try_emplace(r);
    if (!inserted) return it->second;
    std::string base = r->def()->is(Op::input) ? r->def()->attributes().string("name") : r->def()->label();
    if (r->index() > 0) base += fmt::format(":{}", r->index());
    std::string name = base;
    for (int k = 1; !used_names_.insert(name).second; ++k) name = fmt::format("{}#{}", base, k);
    return it->second = name;
  }

  Status insert_observers() {
    for (Node* n = graph_.first(); n != nullptr;) {
      Node* next = n->next();
      for (std::size_t i = 0; i < n->output_count(); ++i) {
        if (wanted_.contains(n->output(i))) AOQ_TRY(observe(n->output(i), next));
      }
      n = next;
    }
    return {};
  }

  Status observe(Value* v, Node* before) {
    const QConfig* config = config_of(v);
    if (config != nullptr && config->activation.kind == "reuse_input") config = config_of(root(v));
    if (config != nullptr && config->activation.kind == "reuse_input") return nothing_to_reuse(*v->def());
    if (config == nullptr) return error(Code::internal, "no qconfig for the value of {}", describe(*v->def()));
    ObserverSpec spec = config->activation;
    Attributes attributes{{"observer", observer_name(v)}, {"spec", print_observer_spec(spec)}};
    AOQ_ASSIGN(Node * o, graph_.create(Op::observe, {v}, std::move(attributes), before));
    o->scope = v->def()->scope;
    bool from_integer = is_integer_node(v->def());
    std::vector<Use> uses = v->uses();
    for (const Use& use : uses) {
      if (use.user == o) continue;
      if (from_integer || reads_codes(use))
        graph_.set_input(use.user, static_cast<std::size_t>(use.operand), o->output());
    }
    return {};
  }

  // One for each value and spec, behind the observers of values with a static scale.
  Status insert_dynamic_observers() {
    std::map<std::pair<const Value*, std::string>, Value*> observed;
    for (const auto& [n, config] : dynamic_) {
      Value* v = n->input(0);
      const std::string spec = print_observer_spec(config->activation);
      Value*& o = observed[{v, spec}];
      if (o == nullptr) {
        // Right behind the value, so that it lies before every reader.
        Node* before = v->def()->next();
        Attributes attributes{{"observer", observer_name(v)}, {"spec", spec}};
        AOQ_ASSIGN(Node * made, graph_.create(Op::observe, {v}, std::move(attributes), before));
        made->scope = v->def()->scope;
        o = made->output();
      }
      graph_.set_input(n, 0, o);
    }
    return {};
  }

  Status observe_recurrent_values() {
    std::map<std::string, std::int64_t> layers;
    for (Node* n : static_) {
      const QConfig& config = *anchors_.at(n);
      const std::string module = n->scope.path.empty() ? n->label() : n->scope.path;
      const std::string place = recurrent_place(module, layers[module]++);
      if (inner_form(config, InnerForm::floats) == InnerForm::floats) {
        AOQ_TRY(observe_state(graph_, n, config, place));
      } else {
        AOQ_TRY(observe_initial_states(n, config, place));
        AOQ_TRY(observe_inner_values(graph_, n, config, place));
      }
    }
    return {};
  }

  // The states that the codes begin with.
  Status observe_initial_states(Node* n, const QConfig& config, const std::string& place) {
    for (const char* name : {"initial_h", "initial_c"}) {
      const int k = n->def().input_index(name);
      if (k < 0 || n->input(static_cast<std::size_t>(k)) == nullptr) continue;
      Attributes a{{"observer", place + "." + name}, {"spec", print_observer_spec(config.activation)}};
      AOQ_ASSIGN(Node * o, graph_.create(Op::observe, {n->input(static_cast<std::size_t>(k))}, std::move(a), n));
      o->scope = n->scope;
      graph_.set_input(n, static_cast<std::size_t>(k), o->output());
    }
    return {};
  }

  bool reads_codes(const Use& use) const {
    if (!is_integer_node(use.user)) return false;
    for (std::size_t i : activation_operands(*use.user)) {
      if (static_cast<int>(i) == use.operand) return true;
    }
    return false;
  }

  Graph& graph_;
  const Recipe& recipe_;
  std::map<const Node*, const QConfig*> anchors_;
  std::vector<std::pair<Node*, const QConfig*>> dynamic_;  // in the order of the graph
  std::vector<Node*> static_;                              // recurrent anchors, in the order of the graph
  std::unordered_set<const Node*> members_;
  std::unordered_set<const Node*> tables_;  // gather and embedding_bag whose rows become codes
  std::unordered_set<const Value*> wanted_;
  std::unordered_map<const Value*, const Value*> parent_;
  std::unordered_map<const Value*, std::string> names_;
  std::set<std::string> used_names_;
};

Result<bool> run(Graph& graph, PassContext& context) {
  if (context.recipe == nullptr) return error(Code::invalid_argument, "needs a recipe");
  if (graph.stage != Stage::traced) {
    return error(Code::invalid_argument, "the graph is {}, expected traced", stage_name(graph.stage));
  }
  if (!context.has_checked_names) AOQ_TRY(check_names(graph, *context.recipe, context.warnings));
  AOQ_TRY(check_qconfigs(graph, *context.recipe));
  if (!context.recipe->backend.empty()) {
    AOQ_TRY(fx::prepare_fx(graph, *context.recipe));
  } else {
    AOQ_TRY(Preparation(graph, *context.recipe).run());
  }
  graph.stage = Stage::prepared;
  return true;
}

}  // namespace

extern const PassDef kPass_prepare;
const PassDef kPass_prepare = {.name = "prepare",
                               .summary = "Decides what becomes integer and inserts observers.",
                               .kind = PassKind::stage,
                               .run = run};

}  // namespace aoq
