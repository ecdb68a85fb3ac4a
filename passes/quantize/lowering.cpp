#include "passes/quantize/lowering.h"

#include <optional>

#include "passes/rewrite/common.h"

namespace aoq::lowering {
namespace {

using namespace rewrite;

bool is_byte(DType d) {
  return d == DType::u8 || d == DType::i8;
}

bool is_symmetric(const Value* zero_point) {
  if (zero_point == nullptr) return true;
  const Tensor* t = constant_tensor(zero_point);
  if (t == nullptr) return false;
  for (std::int64_t i = 0; i < t->element_count(); ++i) {
    if (load_integer(t->dtype(), t->bytes().data(), i) != 0) return false;
  }
  return true;
}

}  // namespace

bool codes_of(const Value* v, Codes* out) {
  if (v == nullptr || !v->def()->is(Op::dequantize)) return false;
  const Node& dq = *v->def();
  out->value = dq.input(0);
  out->dtype = out->value->type().dtype;
  if (!is_byte(out->dtype) || dq.inputs().size() != 1) return false;
  if (const Attribute* scale = dq.attributes().find("scale")) {
    out->scale = static_cast<float>(std::get<double>(*scale));
    const Attribute* zero_point = dq.attributes().find("zero_point");
    out->zero_point = zero_point ? std::get<std::int64_t>(*zero_point) : 0;
    return true;
  }
  const std::optional<Quantization>& q = out->value->type().quantization;
  if (!q || !q->is_immediate || q->granularity != Quantization::Granularity::tensor) return false;
  out->scale = q->scale;
  out->zero_point = q->zero_point;
  return true;
}

bool dynamic_codes_of(const Value* v, DynamicCodes* out) {
  if (v == nullptr || !v->def()->is(Op::dequantize)) return false;
  const Node& dq = *v->def();
  if (dq.inputs().size() != 3 || !is_byte(dq.input(0)->type().dtype)) return false;
  const Node& choose = *dq.input(1)->def();
  const std::string& granularity = dq.attributes().string("granularity");
  if (!choose.is(Op::choose_qparams) || (granularity != "tensor" && granularity != "token")) return false;
  *out = {dq.input(0), dq.input(1), dq.input(2), granularity == "token"};
  // The integer kernels take one zero point for all of x.
  return !out->per_token || (choose.attributes().boolean("symmetric") && out->value->type().dtype == DType::i8);
}

bool weight_of(const Value* v, Weight* out) {
  if (v == nullptr || !v->def()->is(Op::dequantize)) return false;
  const Node& dq = *v->def();
  const Tensor* codes = constant_tensor(dq.input(0));
  const Tensor* scale = constant_tensor(dq.input(1));
  if (codes == nullptr || scale == nullptr || codes->dtype() != DType::i8 || !is_symmetric(dq.input(2))) return false;
  *out = {dq.input(0), dq.input(1), &dq};
  return true;
}

bool is_scalar_constant(const Value* v) {
  const Tensor* t = v == nullptr ? nullptr : constant_tensor(v);
  return t != nullptr && t->element_count() == 1;
}

bool target_of(const Node& n, Target* out) {
  Node* q = n.output_count() == 1 ? only_user(n.output()) : nullptr;
  if (q == nullptr || !q->is(Op::quantize) || q->inputs().size() != 1 || !q->attributes().has("scale")) return false;
  out->quantize = q;
  out->scale = static_cast<float>(q->attributes().real("scale"));
  const Attribute* zero_point = q->attributes().find("zero_point");
  out->zero_point = zero_point ? std::get<std::int64_t>(*zero_point) : 0;
  out->dtype = q->output()->type().dtype;
  return is_byte(out->dtype);
}

void set_out(Attributes& a, const Target& t) {
  a.set("out_dtype", t.dtype);
  a.set("out_scale", static_cast<double>(t.scale));
  a.set("out_zero_point", t.zero_point);
}

void set_in(Attributes& a, const std::string& prefix, const Codes& c) {
  a.set(prefix + "_scale", static_cast<double>(c.scale));
  a.set(prefix + "_zero_point", c.zero_point);
}

Result<bool> Lowering::accept(Node* n, const LayoutNode& made, const Target& out) {
  if (target != nullptr) {
    Status supported = target->supports(*made.node);
    if (!supported.ok()) {
      n->reason = supported.message();
      return false;
    }
  }
  if (out.quantize != nullptr) {
    if (next == out.quantize) next = out.quantize->next();
    replace_node(graph, out.quantize, made.result->output());
    graph.erase(n);
  } else {
    replace_node(graph, n, made.result->output());
  }
  return true;
}

}  // namespace aoq::lowering
