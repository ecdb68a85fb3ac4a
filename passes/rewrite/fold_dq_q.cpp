// quantize(dequantize(q)) with equal type, scale and zero point   =>   q
// quantize(dequantize(q)) with other ones (per tensor, 8 bit)      =>   requantize(q), in a lowered graph
//
// The first is exact: round((q - z) * s * (1/s)) + z = q for 8-bit codes, since the product's error is below half a
// step. The second does in one rounding what the pair does in two.
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

bool static_of_dequantize(const Node& dq, StaticScale* out) {
  if (read_scale(dq, out)) return true;
  const std::optional<Quantization>& q = dq.input(0)->type().quantization;
  if (dq.inputs().size() != 1 || !q || !q->is_immediate || q->granularity != Quantization::Granularity::tensor)
    return false;
  *out = {q->scale, q->zero_point};
  return true;
}

bool is_byte(DType d) {
  return d == DType::u8 || d == DType::i8;
}

Result<bool> fold(Graph& graph, Node* q) {
  Node* dq = input_node(q, 0, Op::dequantize);
  StaticScale from, to;
  if (dq == nullptr || !read_scale(*q, &to) || !static_of_dequantize(*dq, &from)) return false;
  Value* codes = dq->input(0);
  DType out = q->output()->type().dtype;
  if (codes->type().dtype == out && from.scale == to.scale && from.zero_point == to.zero_point) {
    replace_node(graph, q, codes);
    return true;
  }
  if (graph.stage != Stage::lowered || !is_byte(codes->type().dtype) || !is_byte(out)) return false;
  AOQ_ASSIGN(Node * made, graph.create_like(*q, Op::requantize, {codes},
                                            {{"x_scale", static_cast<double>(from.scale)},
                                             {"x_zero_point", from.zero_point},
                                             {"out_dtype", out},
                                             {"out_scale", static_cast<double>(to.scale)},
                                             {"out_zero_point", to.zero_point}},
                                            q));
  replace_node(graph, q, made->output());
  AOQ_TRY(say_scale(graph, made->output(), to));
  return true;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (n->is(Op::quantize)) {
      AOQ_ASSIGN(bool folded, fold(graph, n));
      changed = changed || folded;
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fold_dq_q;
const PassDef kPass_fold_dq_q = {
    .name = "fold-dq-q", .summary = "Cancels a quantize right after a dequantize, or makes it one step.", .run = run};

}  // namespace aoq
