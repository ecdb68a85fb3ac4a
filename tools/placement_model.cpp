#include "tools/placement_model.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include <fmt/format.h>

#include "passes/pass.h"
#include "passes/quantize/weights.h"

namespace aoq::tools {

namespace {

bool is_anchor(const Node& n) {
  return n.is(Op::conv) || n.is(Op::linear) || is_recurrent(n);
}

// The operands that an integer form reads as codes.
bool reads_as_codes(const Node& n, std::size_t operand) {
  const Value* v = n.input(operand);
  if (v == nullptr || v->type().dtype != DType::f32 || constant_tensor(v) != nullptr) return false;
  if (is_recurrent(n)) return operand == 0;
  return !is_anchor(n) || operand == 0 || operand == 3;
}

class Builder {
 public:
  Builder(const Graph& traced, const Graph& prepared) {
    // Nodes keep their order; prepare adds observers between them.
    const Node* p = prepared.first();
    for (Node* n : traced.nodes()) {
      while (p->is(Op::observe)) p = p->next();
      add_op(n, *p);
      p = p->next();
    }
    for (const Node* o : prepared.nodes()) {
      if (o->is(Op::observe)) add_observer(*o);
    }
    for (const Node* n : traced.nodes()) {
      for (std::size_t i = 0; i < n->output_count(); ++i) add_value(n->output(i));
    }
  }

  PlacementModel take() { return std::move(model_); }

 private:
  void add_op(Node* n, const Node& prepared) {
    for (std::size_t i = 0; i < n->output_count(); ++i) originals_[prepared.output(i)] = n->output(i);
    if (prepared.requested != "int8" || !prepared.reason.empty() || is_embedding(*n)) return;
    index_[n] = model_.ops.size();
    model_.ops.push_back(n);
    model_.problem.ops.push_back({.needs_reader = !is_anchor(*n)});
  }

  void add_observer(const Node& observe) {
    const auto original = originals_.find(observe.input(0));
    if (original == originals_.end()) return;
    PlacedValue& placed = observed_[original->second];
    placed.observer = observe.attributes().string("observer");
    const Result<ObserverSpec> spec = parse_observer_spec(observe.attributes().string("spec"));
    placed.is_dynamic = spec.ok() && is_dynamic(*spec);
  }

  void add_value(const Value* v) {
    const auto observed = observed_.find(v);
    const auto maker = index_.find(v->def());
    const bool is_observed = observed != observed_.end();
    if (!is_observed && maker == index_.end()) return;
    PlacementValue value;
    // Scales that are chosen while the model runs are chosen from floats.
    if (maker != index_.end() && !(is_observed && observed->second.is_dynamic)) value.made_by = maker->second;
    for (const Use& use : v->uses()) {
      const auto reader = index_.find(use.user);
      const bool reads_codes =
          is_observed && reader != index_.end() && reads_as_codes(*use.user, static_cast<std::size_t>(use.operand));
      if (!reads_codes) {
        value.is_read_in_float = true;
      } else if (std::find(value.read_by.begin(), value.read_by.end(), reader->second) == value.read_by.end()) {
        value.read_by.push_back(reader->second);
        need_codes(reader->second, value.made_by);
      }
    }
    model_.problem.values.push_back(std::move(value));
    model_.values.push_back(is_observed ? observed->second : PlacedValue{});
    model_.values.back().value = v;
  }

  // Ops between weighted ones work on codes that are there anyway.
  void need_codes(std::size_t reader, std::size_t maker) {
    if (maker != kFloatMade && model_.problem.ops[reader].needs_reader)
      model_.problem.needs.emplace_back(reader, maker);
  }

  PlacementModel model_;
  std::unordered_map<const Node*, std::size_t> index_;
  std::unordered_map<const Value*, const Value*> originals_;
  std::unordered_map<const Value*, PlacedValue> observed_;
};

}  // namespace

Result<PlacementModel> placement_model(const Graph& traced, const Recipe& recipe) {
  const bool decides = recipe.mode == QuantMode::static_quantization || recipe.mode == QuantMode::dynamic_quantization;
  if (!decides || !recipe.backend.empty() || !recipe.configs.empty()) return PlacementModel();
  Graph prepared = traced.clone();
  PassContext context;
  context.recipe = &recipe;
  context.has_checked_names = true;
  const std::array<std::string, 1> prepare{"prepare"};
  AOQ_TRY(run_passes(prepared, prepare, context).status());
  return Builder(traced, prepared).take();
}

Status rename_ranges(const PlacementModel& before, const PlacementModel& after, Ranges& ranges) {
  std::unordered_map<const Value*, std::string> names;
  for (const PlacedValue& v : before.values) names[v.value] = v.observer;
  std::map<std::string, std::unique_ptr<Observer>> added;
  for (const PlacedValue& v : after.values) {
    const auto learnt = ranges.observers.find(names[v.value]);
    if (v.observer.empty() || v.observer == names[v.value] || learnt == ranges.observers.end()) continue;
    AOQ_ASSIGN(added[v.observer], observer_from_json(observer_to_json(*learnt->second)));
  }
  for (auto& [name, observer] : added) ranges.observers[name] = std::move(observer);
  return {};
}

std::string shape_key(const Node& node) {
  std::string key(node.def().name);
  for (const Value* v : node.inputs()) key += v == nullptr ? " -" : " " + to_string(v->type());
  key += " ->";
  for (std::size_t i = 0; i < node.output_count(); ++i) key += " " + to_string(node.output(i)->type());
  return key;
}

}  // namespace aoq::tools
