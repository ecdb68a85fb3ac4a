#include "ir/verifier.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace aoq {

namespace {

Status in_node(const Node& node, Status status) {
  return status.ok() ? Status() : std::move(status).with_context(describe(node));
}

struct UseHash {
  std::size_t operator()(const Use& use) const {
    return std::hash<const Node*>()(use.user) * 31 + static_cast<std::size_t>(use.operand);
  }
};
// Every entry of the use lists of the values defined so far.
using Uses = std::unordered_map<Use, const Value*, UseHash>;

// What each stage forbids. An op with the trait may not appear.
struct StageRule {
  Stage stage;
  Trait forbidden;
  const char* because;
};

constexpr StageRule kStageRules[] = {
    {Stage::traced, kLoweredOnly, "is a lowered op, not allowed before lowering"},
    {Stage::traced, kPreparedOnly, "is allowed in the prepared stage only"},
    {Stage::traced, kQuantizedOnly, "is an integer op, not allowed before quantizing"},
    {Stage::prepared, kQuantizedOnly, "is an integer op, not allowed before quantizing"},
    {Stage::prepared, kLoweredOnly, "is a lowered op, not allowed before lowering"},
    {Stage::quantized, kLoweredOnly, "is a lowered op, not allowed before lowering"},
    {Stage::quantized, kPreparedOnly, "is allowed in the prepared stage only"},
    {Stage::lowered, kPreparedOnly, "is allowed in the prepared stage only"},
};

Status check_stage(const Graph& graph, const Node& node) {
  for (const StageRule& rule : kStageRules) {
    if (rule.stage == graph.stage && node.def().has_trait(rule.forbidden)) {
      return error(Code::invalid_model, "{} (graph is at stage {})", rule.because, stage_name(graph.stage));
    }
  }
  return {};
}

Status check_uses(const Node& node, const std::unordered_set<const Value*>& defined, const Uses& uses) {
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    const Value* v = node.inputs()[i];
    if (v == nullptr) continue;
    if (!defined.contains(v)) return error(Code::invalid_model, "input {} is used before it is defined", i);
    auto use = uses.find(Use{const_cast<Node*>(&node), static_cast<int>(i)});
    if (use == uses.end() || use->second != v) return error(Code::internal, "input {} is missing in the use list", i);
  }
  return {};
}

Status check_types(const Graph& graph, const Node& node) {
  std::vector<const Type*> inputs;
  for (const Value* v : node.inputs()) inputs.push_back(v ? &v->type() : nullptr);
  Attributes attributes = node.attributes();
  AOQ_TRY(complete_attributes(node.def(), attributes));
  AOQ_TRY(check_arity(node.def(), inputs));
  AOQ_ASSIGN(std::vector<Type> types, node.def().infer(InferContext{node.op(), inputs, node.attributes()}));
  if (types.size() != node.output_count()) {
    return error(Code::invalid_model, "has {} results, inference gives {}", node.output_count(), types.size());
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (!(types[i] == node.output(i)->type())) {
      return error(Code::invalid_model, "result {} is {}, inference gives {}", i, to_string(node.output(i)->type()),
                   to_string(types[i]));
    }
    std::vector<std::string> symbols;
    for (const Dim& d : types[i].shape) d.collect_symbols(symbols);
    for (const std::string& s : symbols) {
      if (!graph.symbols.contains(s)) return error(Code::invalid_model, "symbol {} is not declared", s);
    }
  }
  return {};
}

Status check_structure(const Graph& graph) {
  std::set<std::string> names;
  int outputs = 0;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::input) && !names.insert(n->attributes().string("name")).second) {
      return in_node(*n,
                     error(Code::invalid_model, "input name \"{}\" is given twice", n->attributes().string("name")));
    }
    if (n->is(Op::output)) ++outputs;
  }
  if (outputs != 1) return error(Code::invalid_model, "graph has {} output nodes, expected 1", outputs);
  if (!graph.last()->is(Op::output)) return error(Code::invalid_model, "the output node is not the last node");
  for (const auto& [symbol, range] : graph.symbols) {
    if (range.min < 0 || range.min > range.max) {
      return error(Code::invalid_model, "symbol {} has the empty range [{}, {}]", symbol, range.min, range.max);
    }
  }
  return {};
}

}  // namespace

Status verify(const Graph& graph) {
  AOQ_TRY(check_structure(graph));
  std::unordered_set<const Value*> defined;
  Uses uses;
  for (const Node* n : graph.nodes()) {
    AOQ_TRY(in_node(*n, check_stage(graph, *n)));
    AOQ_TRY(in_node(*n, check_uses(*n, defined, uses)));
    AOQ_TRY(in_node(*n, check_types(graph, *n)));
    for (std::size_t i = 0; i < n->output_count(); ++i) {
      defined.insert(n->output(i));
      for (const Use& use : n->output(i)->uses()) uses.emplace(use, n->output(i));
    }
  }
  return {};
}

}  // namespace aoq
