#include "passes/quantize/static_recurrent.h"

#include <algorithm>

#include "ir/error_id.h"
#include "ir/ops/static_recurrent.h"
#include "passes/quantize/check_recipe.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

constexpr std::size_t kLengths = 4, kInitialH = 5, kInitialC = 6, kPeephole = 7;
constexpr const char* kStateCallee = "state";

const ObserverSpec& inner_spec(const QConfig& config) {
  return config.inner && config.inner->kind != "placeholder" ? *config.inner : config.activation;
}

bool is_byte_per_tensor(const ObserverSpec& spec) {
  return spec.dtype == DType::u8 && spec.kind != "placeholder" && spec.kind != "reuse_input" &&
         (spec.qscheme == QScheme::per_tensor_affine || spec.qscheme == QScheme::per_tensor_symmetric);
}

bool is_lstm(const Node& n) {
  return is_one_of(n, {Op::lstm, Op::observed_lstm});
}

// The results before the inner values.
std::size_t result_count(const Node& n) {
  return is_lstm(n) ? ops::kLstmResults : ops::kGruResults;
}

std::span<const ops::InnerValue> values_of(const Node& n) {
  if (is_lstm(n)) return ops::kLstmValues;
  return ops::kGruValues;
}

std::int64_t direction_count(const Node& n) {
  return n.output()->type().shape[1].constant();
}

std::string observer_name(const std::string& place, std::int64_t direction, const char* value) {
  return fmt::format("{}.layer_{}.cell.{}", place, direction == 0 ? "fw" : "bw", value);
}

}  // namespace

InnerForm inner_form(const QConfig& config, InnerForm absent) {
  if (!config.inner) return absent;
  return config.inner->kind == "placeholder" ? InnerForm::floats : InnerForm::codes;
}

std::string why_no_static_form(const Node& n, const QConfig& config) {
  const std::string op = n.def().name;
  if (!is_one_of(n, {Op::lstm, Op::gru})) return fmt::format("{} has no static form", op);
  const Attributes& a = n.attributes();
  if (n.input(kLengths) != nullptr) return fmt::format("{} with sequence lengths has no static form", op);
  if (is_lstm(n) && n.input(kPeephole) != nullptr) return "lstm with peepholes has no static form";
  const bool couples = is_lstm(n) ? a.boolean("input_forget") : !a.boolean("linear_before_reset");
  if (couples) {
    return is_lstm(n) ? "lstm with coupled gates has no static form"
                      : "gru whose reset gate multiplies the state has no static form";
  }
  if (!a.get<std::vector<std::string>>("activations").empty() || a.real("clip") != 0.0) {
    return fmt::format("{} with activations of its own or a clip has no static form", op);
  }
  const bool fits = is_byte_per_tensor(config.activation) && is_byte_per_tensor(inner_spec(config));
  return fits ? "" : fmt::format("{} has a static form with u8 activations per tensor only", op);
}

std::string recurrent_place(const std::string& module, std::int64_t layer) {
  return fmt::format("{}.layers.{}", module, layer);
}

// ---- prepare

namespace {

struct ObservedValue {
  Value* value;
  std::string name;
  Scope scope;
  std::int64_t leading;
};

Status observe_value(Graph& graph, const ObservedValue& v, const ObserverSpec& spec, Node* before) {
  Attributes a{{"observer", v.name}, {"spec", print_observer_spec(spec)}, {"leading", v.leading}};
  AOQ_ASSIGN(Node * o, graph.create(Op::observe, {v.value}, std::move(a), before));
  o->scope = v.scope;
  o->origins = {v.name};
  return {};
}

// Direction d of an inner value [directions, T, B, n].
Result<Value*> direction_of(Graph& graph, Value* v, std::int64_t d, Node* before) {
  if (v->type().shape[0] == Dim(1)) return v;
  using Ints = std::vector<std::int64_t>;
  Attributes a{{"axes", Ints{0}}, {"starts", std::vector<Dim>{d}}, {"ends", std::vector<Dim>{d + 1}}};
  AOQ_ASSIGN(Node * slice, graph.create(Op::slice, {v}, std::move(a), before));
  slice->scope = v->def()->scope;
  slice->scope.callee = "module";
  return slice->output();
}

}  // namespace

Status observe_inner_values(Graph& graph, Node* n, const QConfig& config, const std::string& place) {
  std::vector<Value*> inputs(
      n->inputs().begin(),
      n->inputs().begin() + std::min<std::ptrdiff_t>(std::ssize(n->inputs()), is_lstm(*n) ? kPeephole : kInitialC));
  Attributes a{{"hidden", n->attributes().integer("hidden")},
               {"direction", n->attributes().string("direction")},
               {"weight_spec", print_observer_spec(config.weight)},
               {"place", place}};
  const Op op = is_lstm(*n) ? Op::observed_lstm : Op::observed_gru;
  AOQ_ASSIGN(Node * made, graph.create_like(*n, op, std::move(inputs), std::move(a), n));
  Node* before = n;
  const std::size_t first = result_count(*n);
  Scope scope = n->scope;
  scope.callee = "module";
  for (std::size_t v = 0; v < values_of(*n).size(); ++v) {
    for (std::int64_t d = 0; d < direction_count(*n); ++d) {
      AOQ_ASSIGN(Value * value, direction_of(graph, made->output(first + v), d, before));
      const std::string name = observer_name(place, d, values_of(*n)[v].name);
      AOQ_TRY(observe_value(graph, {value, name, scope, 2}, inner_spec(config), before));
    }
  }
  for (std::size_t i = 0; i < first; ++i) graph.replace_uses(n->output(i), made->output(i));
  graph.erase(n);
  return {};
}

Status observe_state(Graph& graph, Node* n, const QConfig& config, const std::string& place) {
  Scope scope = n->scope;
  scope.callee = kStateCallee;
  return observe_value(graph, {n->output(), place + ".state", scope, 0}, config.activation, n->next());
}

// ---- convert

bool is_observed_recurrent(const Node& n) {
  return is_one_of(n, {Op::observed_lstm, Op::observed_gru});
}

namespace {

// Whether two nodes came from one call of one module.
bool is_one_call(const Node& a, const Node& b) {
  if (!(a.scope == b.scope) || a.origins.empty() || b.origins.empty()) return false;
  return a.origins.front() == b.origins.front();
}

using ops::CodeQParams;

// How a dequantize reads u8 codes with one static scale; none for other values.
std::optional<CodeQParams> static_scale(const Value* v) {
  const Node& dq = *v->def();
  if (!dq.is(Op::dequantize) || dq.inputs().size() != 1 || dq.input(0)->type().dtype != DType::u8) return std::nullopt;
  if (dq.attributes().has("scale")) {
    const Attribute* zero_point = dq.attributes().find("zero_point");
    return CodeQParams{static_cast<float>(dq.attributes().real("scale")),
                       zero_point == nullptr ? 0 : static_cast<std::int32_t>(std::get<std::int64_t>(*zero_point))};
  }
  const std::optional<Quantization>& q = dq.input(0)->type().quantization;
  if (!q || !q->is_immediate || q->granularity != Quantization::Granularity::tensor) return std::nullopt;
  return CodeQParams{q->scale, q->zero_point};
}

bool is_static_dequantize(const Value* v) {
  return static_scale(v).has_value();
}

class Conversion {
 public:
  Conversion(Graph& graph, Node* n, const ObserverQParams& qparams_of)
      : graph_(graph), n_(n), qparams_of_(qparams_of) {}

  Result<Node*> run() {
    AOQ_TRY(take_codes(0, "x"));
    AOQ_TRY(take_codes(kInitialH, "initial_h"));
    if (is_lstm(*n_)) AOQ_TRY(take_codes(kInitialC, "initial_c"));
    attributes_.set("hidden", n_->attributes().integer("hidden"));
    attributes_.set("direction", n_->attributes().string("direction"));
    AOQ_TRY(set_inner());
    AOQ_ASSIGN(const ObserverSpec spec, parse_observer_spec(n_->attributes().string("weight_spec")));
    AOQ_TRY(quantize_recurrent_weights(graph_, n_, spec));
    AOQ_ASSIGN(Node * made, make());
    AOQ_TRY(connect(made));
    erase_observers();
    const std::vector<Value*> before(n_->inputs());
    graph_.erase(n_);
    for (const Value* v : before) {
      if (v != nullptr && v->def()->is(Op::dequantize) && v->uses().empty()) graph_.erase(v->def());
    }
    return made;
  }

 private:
  Status take_codes(std::size_t input, const std::string& name) {
    Value* v = n_->input(input);
    if (v == nullptr) return {};
    AOQ_ASSIGN(v, carried(v));
    if (!is_static_dequantize(v)) {
      return error(Code::invalid_argument, "{} is {}, expected u8 codes with a static scale", name,
                   to_string(v->type()));
    }
    codes_[input] = v->def()->input(0);
    const CodeQParams q = *static_scale(v);
    attributes_.set(name + "_scale", static_cast<double>(q.scale));
    attributes_.set(name + "_zero_point", static_cast<std::int64_t>(q.zero_point));
    return {};
  }

  // What moves the codes in front of the op, within its module, moves them as codes.
  Result<Value*> carried(Value* v) {
    Node* mover = v->def();
    const bool moves = is_one_of(*mover, {Op::permute, Op::reshape, Op::slice}) && is_one_call(*mover, *n_);
    if (is_static_dequantize(v) || !moves) return v;
    AOQ_ASSIGN(Value * from, carried(mover->input(0)));
    if (!is_static_dequantize(from)) return v;
    AOQ_ASSIGN(Node * back, stub_behind(mover, *static_scale(from)));
    return back->output();
  }

  // mover(dequantize(codes)) => dequantize(quantize(mover(dequantize(codes)))), which lowering makes a move of codes.
  Result<Node*> stub_behind(Node* mover, const CodeQParams& q) {
    Attributes a{{"dtype", DType::u8},
                 {"scale", static_cast<double>(q.scale)},
                 {"zero_point", static_cast<std::int64_t>(q.zero_point)}};
    Node* before = mover->next();
    AOQ_ASSIGN(Node * quantize, graph_.create(Op::quantize, {mover->output()}, std::move(a), before));
    AOQ_ASSIGN(Node * back, graph_.create(Op::dequantize, {quantize->output()}, {}, before));
    quantize->scope = back->scope = mover->scope;
    quantize->origins = back->origins = mover->origins;
    quantize->scope.callee = "module";
    for (Value* v : mover->inputs()) {
      if (is_one_call(*v->def(), *mover)) v->def()->scope.callee = "module";
    }
    graph_.replace_uses_except(mover->output(), back->output(), quantize);
    return back;
  }

  Status set_inner() {
    std::vector<double> scales;
    std::vector<std::int64_t> zero_points;
    for (std::int64_t d = 0; d < direction_count(*n_); ++d) {
      for (const ops::InnerValue& v : values_of(*n_)) {
        const std::string name = observer_name(n_->attributes().string("place"), d, v.name);
        Result<QParams> q = qparams_of_(name);
        if (!q.ok()) return std::move(q).status();
        Status fits = check_activation_qparams(*q);
        if (!fits.ok()) return std::move(fits).with_context(fmt::format("observer \"{}\"", name));
        scales.push_back(static_cast<double>(q->scale[0]));
        zero_points.push_back(q->zero_point[0]);
      }
    }
    attributes_.set("scales", std::move(scales));
    attributes_.set("zero_points", std::move(zero_points));
    return {};
  }

  // Scales [d, M, 1] as the op has them, [d, M].
  Value* scales_of(const Node& dequantize) {
    const Tensor& scale = *constant_tensor(dequantize.input(1));
    if (scale.shape().size() == 1) return dequantize.input(1);
    return graph_.constant(float_tensor({scale.shape()[0], scale.shape()[1]}, scale.as<float>()), n_,
                           dequantize.input(1)->def()->label());
  }

  Result<Node*> make() {
    const Node& w = *n_->input(1)->def();
    const Node& r = *n_->input(2)->def();
    std::vector<Value*> inputs{codes_[0],    w.input(0),   r.input(0),       scales_of(w),
                               scales_of(r), n_->input(3), codes_[kInitialH]};
    if (is_lstm(*n_)) inputs.push_back(codes_[kInitialC]);
    const Op op = is_lstm(*n_) ? Op::qlstm_static : Op::qgru_static;
    return graph_.create_like(*n_, op, std::move(inputs), std::move(attributes_), n_);
  }

  // Of result i: the forward direction's.
  static CodeQParams scale_of(const Node& made, std::size_t i) {
    const ops::StaticForm& form = made.is(Op::qlstm_static) ? ops::kStaticLstm : ops::kStaticGru;
    return ops::read_static_qparams(made.attributes(), form).inner[0][i == 2 ? form.cell : form.hidden];
  }

  Status connect(Node* made) {
    for (std::size_t i = 0; i < made->output_count(); ++i) {
      if (n_->output(i)->uses().empty()) continue;
      const CodeQParams q = scale_of(*made, i);
      Attributes a{{"scale", static_cast<double>(q.scale)}, {"zero_point", static_cast<std::int64_t>(q.zero_point)}};
      AOQ_ASSIGN(Node * dq, graph_.create(Op::dequantize, {made->output(i)}, std::move(a), n_));
      dq->scope = n_->scope;
      dq->origins = n_->origins;
      graph_.replace_uses(n_->output(i), dq->output());
      AOQ_TRY(carry_codes(dq, *made));
    }
    return {};
  }

  // Behind the op too. What joins several values takes the first one's scale.
  Status carry_codes(Node* dq, const Node& made) {
    const std::vector<Use> uses = dq->output()->uses();
    for (const Use& use : uses) {
      Node* mover = use.user;
      const bool moves = is_one_of(*mover, {Op::permute, Op::reshape, Op::concat}) && is_one_call(*mover, made);
      if (!moves || !std::ranges::all_of(mover->inputs(), is_static_dequantize)) continue;
      AOQ_ASSIGN(Node * back, stub_behind(mover, *static_scale(mover->input(0))));
      AOQ_TRY(carry_codes(back, made));
    }
    return {};
  }

  void erase_observers() {
    for (std::size_t i = result_count(*n_); i < n_->output_count(); ++i) erase_readers(n_->output(i));
  }

  void erase_readers(Value* v) {
    while (!v->uses().empty()) {
      Node* user = v->uses().front().user;
      erase_readers(user->output());
      graph_.erase(user);
    }
  }

  Graph& graph_;
  Node* n_;
  const ObserverQParams& qparams_of_;
  Attributes attributes_;
  Value* codes_[kInitialC + 1] = {};
};

std::string module_of(const Node& n) {
  return n.scope.path.empty() ? describe(n) : "module \"" + n.scope.path + "\"";
}

}  // namespace

Result<Node*> quantize_observed_recurrent(Graph& graph, Node* n, const ObserverQParams& qparams_of) {
  const std::string module = module_of(*n);
  Result<Node*> made = Conversion(graph, n, qparams_of).run();
  if (!made.ok()) return std::move(made).status().with_context(module);
  return made;
}

Status quantize_state(Graph& graph, Node* n, const ObserverQParams& qparams_of) {
  for (const Use& use : n->output()->uses()) {
    Node* o = use.user;
    if (!o->is(Op::observe) || o->scope.callee != kStateCallee) continue;
    const std::string name = o->attributes().string("observer");
    AOQ_ASSIGN(const QParams q, qparams_of(name));
    AOQ_TRY(check_activation_qparams(q).with_context(fmt::format("observer \"{}\"", name)));
    n->set_attribute("state_scale", static_cast<double>(q.scale[0]));
    n->set_attribute("state_zero_point", static_cast<std::int64_t>(q.zero_point[0]));
    graph.erase(o);
    return graph.infer(n).with_context(module_of(*n));
  }
  return {};
}

}  // namespace aoq
