#include "ir/interpreter.h"
#include "passes/quantize/lowering.h"
#include "passes/rewrite/common.h"

namespace aoq::lowering {
namespace {

using namespace rewrite;

// Weights [d, M, K] with scales [d], or [d, M, 1] as [d, M].
bool recurrent_weight_of(const Value* v, Weight* out) {
  if (!weight_of(v, out)) return false;
  const Attributes& a = out->dequantize->attributes();
  const std::string& granularity = a.string("granularity");
  return granularity == "token" || (granularity == "axis" && a.integer("axis") == 0);
}

Value* without_last_axis(Lowering& lowering, Node* n, Value* scale) {
  if (scale->type().rank() == 1) return scale;
  const Tensor& t = *constant_tensor(scale);
  Result<Tensor> matrix = t.reshaped({t.shape()[0], t.shape()[1]});
  AOQ_CHECK(matrix.ok());
  return lowering.graph.constant(std::move(*matrix), n);
}

// The op quantizes x itself, and its state in every step, as choose_qparams in front of it says: x as floats, and what
// the op must know; null where there is no such form.
struct RecurrentX {
  Value* value = nullptr;
  Attributes attributes;
};
RecurrentX recurrent_x(const Node& n) {
  RecurrentX out{nullptr, n.attributes()};
  DynamicCodes chosen;
  Codes fixed;
  if (n.attributes().has("state_scale")) {
    if (!codes_of(n.input(0), &fixed) || fixed.dtype != DType::u8) return out;
    const Node& made = *fixed.value->def();
    const bool is_stub = made.is(Op::quantize) && made.inputs().size() == 1;
    out.value = is_stub ? made.input(0) : n.input(0);
    set_in(out.attributes, "x", fixed);
  } else if (dynamic_codes_of(n.input(0), &chosen) && !chosen.per_token) {
    const Node& choose = *chosen.scale->def();
    const bool fits = choose.attributes().string("formula") == "aten" && chosen.value->type().dtype == DType::u8;
    out.value = fits ? choose.input(0) : nullptr;
    out.attributes.set("reduce_range", choose.attributes().boolean("reduce_range"));
  }
  return out;
}

// The same node with its state in float.
Status keep_state(Lowering& lowering, Node* n) {
  Attributes a = n->attributes();
  a.erase("state_scale");
  a.erase("state_zero_point");
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*n, n->op(), n->inputs(), std::move(a), n));
  made->reason = n->reason;
  for (std::size_t i = 0; i < n->output_count(); ++i) lowering.graph.replace_uses(n->output(i), made->output(i));
  lowering.graph.erase(n);
  return {};
}

// What cannot run on integers reads x as it is and rounded weights as floats, which its float kernels take.
Result<bool> back_to_float(Lowering& lowering, Node* n, Value* x) {
  lowering.graph.set_input(n, 0, x);
  for (std::size_t i : {std::size_t{1}, std::size_t{2}}) {
    const Node& dq = *n->input(i)->def();
    const std::vector<Tensor> inputs{*constant_tensor(dq.input(0)), *constant_tensor(dq.input(1)), Tensor()};
    AOQ_ASSIGN(std::vector<Tensor> weight, evaluate_node(dq, std::span(inputs).first(dq.inputs().size())));
    lowering.graph.set_input(n, i, lowering.graph.constant(std::move(weight[0]), n, dq.label()));
  }
  if (n->attributes().has("state_scale")) AOQ_TRY(keep_state(lowering, n));
  return false;
}

}  // namespace

Result<bool> lower_recurrent(Lowering& lowering, Node* n) {
  Weight w, r;
  if (!recurrent_weight_of(n->input(1), &w) || !recurrent_weight_of(n->input(2), &r)) return false;
  RecurrentX x = recurrent_x(*n);
  if (x.value == nullptr) return false;
  std::vector<Value*> inputs{x.value, w.codes, r.codes, without_last_axis(lowering, n, w.scale),
                             without_last_axis(lowering, n, r.scale)};
  inputs.insert(inputs.end(), n->inputs().begin() + 3, n->inputs().end());
  Attributes a = std::move(x.attributes);
  const Op op = n->is(Op::lstm) ? Op::qlstm : n->is(Op::gru) ? Op::qgru : Op::qrnn;
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*n, op, std::move(inputs), std::move(a), n));
  Status supported = lowering.target == nullptr ? Status() : lowering.target->supports(*made);
  if (!supported.ok()) {
    n->reason = supported.message();
    return back_to_float(lowering, n, x.value);
  }
  for (std::size_t i = 0; i < n->output_count(); ++i) lowering.graph.replace_uses(n->output(i), made->output(i));
  lowering.graph.erase(n);
  return true;
}

Result<bool> lower_embedding(Lowering& lowering, Node* n) {
  const Node* rows = n->input(0)->def();
  if (!rows->is(Op::dequantize_rows)) return false;
  Attributes a = rows->attributes();
  if (n->is(Op::gather)) {
    const std::int64_t axis = n->attributes().integer("axis");
    if (axis != 0 && axis != -2) return false;
  } else {
    const std::string& mode = n->attributes().string("mode");
    if (mode == "max") {
      if (n->reason.empty()) n->reason = "a maximum has no form on quantized rows";
      return false;
    }
    a.set("mode", mode);
    a.set("include_last_offset", n->attributes().boolean("include_last_offset"));
  }
  std::vector<Value*> inputs = rows->inputs();
  inputs.insert(inputs.end(), n->inputs().begin() + 1, n->inputs().end());
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*n, Op::qembedding, std::move(inputs), std::move(a), n));
  return lowering.accept(n, made, Target{});
}

}  // namespace aoq::lowering
