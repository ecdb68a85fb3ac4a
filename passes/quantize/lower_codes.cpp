#include <algorithm>
#include <cmath>

#include "passes/quantize/lowering.h"
#include "passes/rewrite/common.h"

namespace aoq::lowering {
namespace {

using namespace rewrite;

// A mean over all spatial dimensions that keeps them is an average pool over the whole plane.
bool plane_kernel(const Node& n, std::vector<std::int64_t>* kernel) {
  const std::vector<Dim>& shape = n.input(0)->type().shape;
  std::vector<std::int64_t> axes = n.attributes().integers("axes");
  if (shape.size() < 3 || axes.size() != shape.size() - 2) return false;
  for (std::int64_t& axis : axes) axis = axis < 0 ? axis + static_cast<std::int64_t>(shape.size()) : axis;
  std::sort(axes.begin(), axes.end());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] != static_cast<std::int64_t>(i) + 2 || !shape[i + 2].is_constant()) return false;
    kernel->push_back(shape[i + 2].constant());
  }
  return true;
}

Result<Value*> requantized(Lowering& lowering, Node* at, const Codes& from, const Target& to) {
  if (from.scale == to.scale && from.zero_point == to.zero_point && from.dtype == to.dtype) return from.value;
  Attributes a;
  set_in(a, "x", from);
  set_out(a, to);
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*at, Op::requantize, {from.value}, std::move(a), at));
  return made->output();
}

}  // namespace

// quantize(relu(add(...))): rounding keeps the order of numbers, so relu may come after it:
// relu(dequantize(quantize(add(...)))), whose codes are a clamp.
Status fuse_relu(Lowering& lowering, Node* n) {
  Node* relu = only_user(n->output());
  Target out;
  if (relu == nullptr || !relu->is(Op::relu) || !target_of(*relu, &out)) return {};
  for (const Value* v : n->inputs()) {
    Codes operand;
    if (!is_scalar_constant(v) && !codes_of(v, &operand)) return {};  // stays in float, and relu with it
  }
  Node* q = out.quantize;
  AOQ_ASSIGN(Node * before, lowering.graph.create_like(*q, Op::quantize, {n->output()}, q->attributes(), relu));
  Attributes scale{{"scale", static_cast<double>(out.scale)}, {"zero_point", out.zero_point}};
  AOQ_ASSIGN(Node * dq, lowering.graph.create_like(*q, Op::dequantize, {before->output()}, std::move(scale), relu));
  lowering.graph.set_input(relu, 0, dq->output());
  if (lowering.next == relu) lowering.next = before;
  return {};
}

Result<bool> lower_binary(Lowering& lowering, Node* n, const Target& out) {
  Codes a, b;
  if (!codes_of(n->input(0), &a) || !codes_of(n->input(1), &b)) return false;
  Attributes attributes;
  set_in(attributes, "a", a);
  set_in(attributes, "b", b);
  set_out(attributes, out);
  const Op op = n->is(Op::add) ? Op::qadd : n->is(Op::mul) ? Op::qmul : Op::qmatmul;
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*n, op, {a.value, b.value}, std::move(attributes), n));
  return lowering.accept(n, made, out);
}

Result<bool> lower_average(Lowering& lowering, Node* n, const Target& out) {
  Codes x;
  if (!codes_of(n->input(0), &x)) return false;
  Attributes a;
  std::vector<std::int64_t> kernel;
  bool is_mean = n->is(Op::reduce_mean);
  if (is_mean) {
    if (!plane_kernel(*n, &kernel)) return false;
    a.set("kernel", kernel);
  } else {
    a = n->attributes();
  }
  set_in(a, "x", x);
  set_out(a, out);
  AOQ_ASSIGN(LayoutNode made, create_channels_last(lowering.graph, n, Op::qavg_pool, {x.value}, std::move(a)));
  if (is_mean && !n->attributes().boolean("keepdims")) {
    AOQ_ASSIGN(made.result, lowering.graph.create_like(*n, Op::reshape, {made.result->output()},
                                                       {{"shape", n->output()->type().shape}}, n));
  }
  return lowering.accept(n, made, out);
}

bool moves_codes(const Node& n) {
  if (n.is(Op::resize)) return n.attributes().string("mode") == "nearest";
  if (n.is(Op::pad)) return true;
  return n.def().rule == QuantRule::passthrough || n.is(Op::max_pool);
}

Result<bool> lower_move(Lowering& lowering, Node* n, const Target& out) {
  Codes x;
  if (!codes_of(n->input(0), &x)) return false;
  Attributes a = n->attributes();
  if (n->is(Op::pad)) {
    // The padding value as a code; one that is not representable stays float.
    if (a.string("mode") == "constant") {
      double code = std::nearbyint(a.real("value") / static_cast<double>(x.scale)) + static_cast<double>(x.zero_point);
      if (code < dtype_info(x.dtype).min || code > dtype_info(x.dtype).max) return false;
      a.set("value", code);
    }
  }
  std::vector<Value*> inputs = n->inputs();
  inputs[0] = x.value;
  AOQ_ASSIGN(LayoutNode moved, create_channels_last(lowering.graph, n, n->op(), std::move(inputs), std::move(a)));
  x.value = moved.result->output();
  AOQ_ASSIGN(Value * codes, requantized(lowering, n, x, out));
  return lowering.accept(n, LayoutNode{moved.node, codes->def()}, out);
}

Result<bool> lower_concat(Lowering& lowering, Node* n, const Target& out) {
  std::vector<Value*> inputs;
  std::vector<Codes> all;
  for (Value* v : n->inputs()) {
    Codes c;
    if (!codes_of(v, &c)) return false;
    all.push_back(c);
  }
  for (const Codes& c : all) {
    AOQ_ASSIGN(Value * v, requantized(lowering, n, c, out));
    inputs.push_back(v);
  }
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*n, Op::concat, std::move(inputs), n->attributes(), n));
  return lowering.accept(n, made, out);
}

}  // namespace aoq::lowering
