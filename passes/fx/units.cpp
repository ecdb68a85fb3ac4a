#include "passes/fx/units.h"

#include <algorithm>

#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

bool is_attribute(const Node& n) {
  return n.is(Op::constant) && n.scope.callee == "getattr";
}

UnitKind kind_of(const Node& n) {
  if (n.is(Op::input)) return UnitKind::placeholder;
  if (n.is(Op::output)) return UnitKind::output;
  if (n.is(Op::constant)) return UnitKind::get_attr;
  if (n.scope.callee.empty() || n.scope.callee == "leaf" || n.is(Op::observe)) return UnitKind::call_module;
  return n.scope.callee.starts_with('.') ? UnitKind::call_method : UnitKind::call_function;
}

// What belongs to its readers: constants that are no attributes, with what observes or dequantizes them, and observers
// inside modules.
bool is_inside(const Node& n) {
  if (n.is(Op::constant)) return !is_attribute(n);
  const bool is_in_module = n.scope.callee == "module" || n.scope.callee == "state";
  if (rewrite::is_one_of(n, {Op::observe, Op::slice}) && is_in_module) return true;
  if (!rewrite::is_one_of(n, {Op::observe, Op::dequantize, Op::dequantize_rows}) || n.input(0) == nullptr) return false;
  const Node& def = *n.input(0)->def();
  return def.is(Op::constant) && !is_attribute(def);
}

// Stubs of a module that is several nodes are members of its unit.
bool is_inner_stub(const Node& n) {
  return rewrite::is_one_of(n, {Op::quantize, Op::dequantize}) && n.scope.callee == "module";
}

// Stubs and observers are units of their own whatever their scope says.
bool is_boundary(const Node& n) {
  if (n.is(Op::cast) && n.scope.type == "Observer") return true;
  return rewrite::is_one_of(
      n, {Op::input, Op::output, Op::constant, Op::observe, Op::quantize, Op::dequantize, Op::choose_qparams});
}

// The members of a fused module keep their types.
bool is_one_place(const Scope& a, const Scope& b) {
  return a.path == b.path && a.callee == b.callee;
}

void add_once(std::vector<Value*>& list, Value* v) {
  if (std::find(list.begin(), list.end(), v) == list.end()) list.push_back(v);
}

}  // namespace

Node* Unit::main() const {
  for (Node* n : nodes) {
    if (rewrite::is_one_of(*n, {Op::conv, Op::conv_transpose, Op::linear, Op::lstm, Op::gru, Op::rnn, Op::observed_lstm,
                                Op::observed_gru, Op::qlstm_static, Op::qgru_static})) {
      return n;
    }
  }
  return nodes.front();
}

std::vector<std::string> Unit::keys() const {
  const Node* n = main();
  if (n->scope.callee == "leaf") return {n->scope.type};
  if (!n->scope.callee.empty()) return {n->scope.callee};
  if (is_traced) return {n->scope.type};
  return {n->scope.type, n->def().name};
}

Units::Units(const Graph& graph) {
  collect(graph);
  connect();
}

void Units::collect(const Graph& graph) {
  std::map<std::string, int> open;
  for (Node* n : graph.nodes()) {
    if (is_inside(*n)) continue;
    const std::string name = n->origins.empty() ? std::string() : n->origins.front();
    if (const auto found = open.find(name); is_inner_stub(*n) && found != open.end()) {
      units_[static_cast<std::size_t>(found->second)].nodes.push_back(n);
      index_[n] = found->second;
      continue;
    }
    if (!is_boundary(*n) && !name.empty()) {
      const auto found = open.find(name);
      if (found != open.end() && is_one_place(units_[static_cast<std::size_t>(found->second)].scope(), n->scope)) {
        units_[static_cast<std::size_t>(found->second)].nodes.push_back(n);
        index_[n] = found->second;
        continue;
      }
      open[name] = static_cast<int>(units_.size());
    }
    index_[n] = static_cast<int>(units_.size());
    Unit unit;
    unit.kind = kind_of(*n);
    unit.is_traced = graph.metadata.contains("symbolic_trace");
    unit.name = n->is(Op::output) ? "output" : name;
    unit.nodes.push_back(n);
    units_.push_back(std::move(unit));
  }
}

void Units::connect() {
  for (std::size_t i = 0; i < units_.size(); ++i) {
    Unit& unit = units_[i];
    const bool several = unit.nodes.size() > 1;
    for (Node* n : unit.nodes) {
      for (Value* v : n->inputs()) {
        const int maker = v == nullptr ? -1 : of(v);
        if (maker < 0 || maker == static_cast<int>(i)) continue;
        if (several) {
          add_once(unit.inputs, v);
        } else {
          unit.inputs.push_back(v);
        }
      }
      for (std::size_t k = 0; k < n->output_count(); ++k) {
        const std::vector<Use>& uses = n->output(k)->uses();
        const bool leaves =
            std::any_of(uses.begin(), uses.end(), [&](const Use& u) { return of(u.user) != static_cast<int>(i); });
        if (leaves) unit.results.push_back(n->output(k));
      }
    }
    if (unit.results.empty() && unit.nodes.back()->output_count() > 0)
      unit.results.push_back(unit.nodes.back()->output());
  }
}

int Units::of(const Node* node) const {
  const auto it = index_.find(node);
  return it == index_.end() ? -1 : it->second;
}

int Units::of(const Value* value) const {
  return of(value->def());
}

std::vector<int> Units::readers(const Value* value) const {
  std::vector<int> out;
  for (const Use& use : value->uses()) {
    const int i = of(use.user);
    if (i >= 0) out.push_back(i);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace aoq::fx
