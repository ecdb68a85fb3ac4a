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

// The operand of an op that reads narrow codes and computes in float: linear layers and tables; -1 for others.
int narrow_operand(const Node& node) {
  if (node.is(Op::linear_weight_only) || node.is(Op::linear_dynamic)) return 1;
  return node.is(Op::qembedding) ? 0 : -1;
}

// Such ops run in the precision of their codes.
std::string narrow_precision(const Node& node, int operand) {
  if (node.is(Op::qembedding) && node.attributes().integer("group") == 0) {
    return fmt::format("int{}", node.attributes().integer("bits"));
  }
  const DTypeInfo& info = dtype_info(node.input(static_cast<std::size_t>(operand))->type().dtype);
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

bool is_code(const Value* v) {
  return v->type().dtype == DType::u8 || v->type().dtype == DType::i8;
}

std::string reason_of_float_op(const Node& n) {
  const bool reads = is_code(n.input(0)), writes = is_code(n.output());
  const char* codes = reads && writes ? "reads and writes codes" : reads ? "reads codes" : "writes codes";
  return reads || writes ? fmt::format("{}; its arithmetic is float", codes) : "its arithmetic is float";
}

std::string default_reason(const Node& n) {
  if (is_float_op(n)) return reason_of_float_op(n);
  if (is_boundary(n)) return "turns float numbers into codes or back, at the edge of an integer part";
  if (n.def().rule == QuantRule::float_only) return fmt::format("{} has no integer form", n.def().name);
  if (precision_of(n).starts_with("float"))
    return "what it reads is float: turning it into codes would cost more than it saves";
  return "computes on integers or booleans, not on activations";
}

}  // namespace

std::string precision_of(const Node& node) {
  if (const int operand = narrow_operand(node); operand >= 0) return narrow_precision(node, operand);
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
    if (e.reason.empty() && narrow_operand(*n) < 0 && !is_integer_op(*n)) e.reason = default_reason(*n);
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
