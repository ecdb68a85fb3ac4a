#include "tools/op_list.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/computed_constant.h"

namespace aoq::tools {

namespace {

std::string precision_name(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  if (dtype == DType::u8 || dtype == DType::i8) return "int8";
  if (dtype == DType::bf16) return "bfloat16";
  switch (info.kind) {
    case DTypeKind::floating:
      return info.bits >= 16 ? fmt::format("float{}", info.bits) : std::string(info.name);
    case DTypeKind::signed_integer:
      return fmt::format("int{}", info.bits);
    case DTypeKind::unsigned_integer:
      return fmt::format("uint{}", info.bits);
    case DTypeKind::boolean:
      return "bool";
    case DTypeKind::scale:
      break;
  }
  return std::string(info.name);
}

// Linear ops with narrow weights run in the precision of their codes.
std::string narrow_precision(const Node& node) {
  const DTypeInfo& info = dtype_info(node.input(1)->type().dtype);
  return info.kind == DTypeKind::floating ? std::string(info.name) : fmt::format("int{}", info.bits);
}

bool is_boundary(const Node& n) {
  return n.def().rule == QuantRule::boundary;
}

// Lowered ops that compute in float: what they read or write says nothing about it.
bool is_float_op(const Node& n) {
  return n.is(Op::qlayer_norm) || (n.is(Op::attention) && n.attributes().string("arithmetic") == "f32");
}

bool is_integer_op(const Node& n) {
  if (is_float_op(n)) return false;
  return n.def().has_trait(kLoweredOnly) || n.def().has_trait(kQuantizedOnly);
}

std::string default_reason(const Node& n) {
  if (is_boundary(n)) return "turns float numbers into codes or back, at the edge of an integer part";
  if (n.def().rule == QuantRule::float_only) return fmt::format("{} has no integer form", n.def().name);
  if (precision_of(n).starts_with("float"))
    return "what it reads is float: turning it into codes would cost more than it saves";
  return "computes on integers or booleans, not on activations";
}

}  // namespace

std::string precision_of(const Node& node) {
  if (node.is(Op::qembedding) && node.attributes().integer("bits") == 4) return "int4";
  if (node.is(Op::linear_weight_only) || node.is(Op::linear_dynamic)) return narrow_precision(node);
  if (is_integer_op(node)) return "int8";
  if (is_boundary(node)) return "boundary";
  for (const Value* v : node.inputs()) {
    if (v != nullptr && is_float(v->type().dtype)) return precision_name(v->type().dtype);
  }
  for (std::size_t i = 0; i < node.output_count(); ++i) {
    if (is_float(node.output(i)->type().dtype)) return precision_name(node.output(i)->type().dtype);
  }
  return node.output_count() > 0 ? precision_name(node.output()->type().dtype) : "none";
}

std::vector<OpEntry> list_ops(const Graph& graph, const std::vector<StepInfo>& steps) {
  std::vector<OpEntry> entries;
  std::size_t step = 0;
  for (const Node* n : graph.nodes()) {
    if (n->def().has_trait(kStructural)) continue;
    OpEntry e;
    e.name = n->label();
    e.op = n->def().name;
    e.requested = n->requested;
    e.runs = precision_of(*n);
    e.reason = n->reason;
    e.is_view = n->def().has_trait(kView);
    // Steps are in the order of the nodes; views have none.
    if (step < steps.size() && steps[step].op == e.op && steps[step].label == e.name) {
      e.kernel = steps[step].row;
      e.inexact = steps[step].inexact;
      e.slices = steps[step].slices;
      e.refused = steps[step].refused;
      ++step;
    } else if (e.is_view && !steps.empty()) {
      e.kernel = "view";
    } else if (!steps.empty() && is_computed_constant(*n)) {
      e.kernel = "at load";
    }
    entries.push_back(std::move(e));
  }
  if (!is_quantized(entries)) return entries;
  std::size_t i = 0;
  for (const Node* n : graph.nodes()) {
    if (n->def().has_trait(kStructural)) continue;
    OpEntry& e = entries[i++];
    const bool is_narrow = n->is(Op::linear_weight_only) || n->is(Op::linear_dynamic);
    if (e.reason.empty() && !is_narrow && !is_integer_op(*n)) e.reason = default_reason(*n);
  }
  return entries;
}

std::map<std::string, std::int64_t> count_by_precision(const std::vector<OpEntry>& ops) {
  std::map<std::string, std::int64_t> counts{{"int8", 0}, {"float32", 0}};
  for (const OpEntry& e : ops) {
    if (!e.is_view) ++counts[e.runs];
  }
  return counts;
}

bool runs_in_float(const OpEntry& op) {
  return op.runs.starts_with("float") || op.runs == "bfloat16";
}

bool is_quantized(const std::vector<OpEntry>& ops) {
  return std::any_of(ops.begin(), ops.end(),
                     [](const OpEntry& e) { return e.runs == "int8" || e.runs == "int4" || !e.requested.empty(); });
}

Json float_because(const std::vector<OpEntry>& ops) {
  Json list = Json::array();
  if (!is_quantized(ops)) return list;
  for (const OpEntry& e : ops) {
    if (!e.is_view && runs_in_float(e)) list.push_back({{"name", e.name}, {"op", e.op}, {"reason", e.reason}});
  }
  return list;
}

}  // namespace aoq::tools
