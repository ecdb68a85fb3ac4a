#include "passes/quantize/lowering.h"
#include "passes/rewrite/common.h"

namespace aoq::lowering {
namespace {

using namespace rewrite;

// One scale, or one for each output channel.
bool channel_weight_of(const Value* v, Weight* out) {
  if (!weight_of(v, out)) return false;
  const Attributes& a = out->dequantize->attributes();
  const bool per_channel = a.string("granularity") == "axis" && a.integer("axis") == 0;
  return per_channel || constant_tensor(out->scale)->element_count() == 1;
}

// A per-tensor scale as the one-element vector that qconv and qlinear take.
Value* scale_vector(Lowering& lowering, Node* n, Value* scale) {
  if (scale->type().rank() == 1) return scale;
  Result<Tensor> t = constant_tensor(scale)->reshaped({1});
  AOQ_CHECK(t.ok());
  return lowering.graph.constant(std::move(*t), n);
}

// A float residual cannot be added to codes: conv(x, w, b, r) {act} becomes act(add(conv(x, w, b), r)) again.
Status split_residual(Lowering& lowering, Node* n) {
  Value* residual = n->input(3);
  lowering.graph.set_input(n, 3, nullptr);
  AOQ_ASSIGN(Node * sum, node_beside(lowering.graph, *n, Op::add, {n->output(), residual}, n->next()));
  AOQ_ASSIGN(Node * last, split_activation(lowering.graph, *n, sum, sum->next()));
  n->set_attribute("activation", std::string("none"));
  sum->reason.clear();
  last->reason.clear();
  std::vector<Use> uses = n->output()->uses();
  for (const Use& use : uses) {
    if (use.user != sum) lowering.graph.set_input(use.user, static_cast<std::size_t>(use.operand), last->output());
  }
  return {};
}

// The product is made in steps of x's scales, and each row takes its own afterwards.
Result<bool> lower_per_token(Lowering& lowering, Node* n, const DynamicCodes& x, const Weight& w) {
  if (!n->is(Op::linear)) return false;
  if (n->input(3) != nullptr) AOQ_TRY(split_residual(lowering, n));
  Attributes a{{"x_scale", 1.0}, {"x_zero_point", std::int64_t{0}}, {"out_dtype", DType::f32}};
  AOQ_ASSIGN(Node * product,
             lowering.graph.create_like(*n, Op::qlinear, {x.value, w.codes, scale_vector(lowering, n, w.scale)},
                                        std::move(a), n));
  AOQ_ASSIGN(Node * last, node_beside(lowering.graph, *n, Op::mul, {product->output(), x.scale}, n));
  if (n->input(2) != nullptr) {
    AOQ_ASSIGN(last, node_beside(lowering.graph, *n, Op::add, {last->output(), n->input(2)}, n));
  }
  AOQ_ASSIGN(last, split_activation(lowering.graph, *n, last, n));
  return lowering.accept(n, LayoutNode{product, last}, Target{});
}

}  // namespace

Result<bool> lower_weighted(Lowering& lowering, Node* n) {
  Codes x, residual;
  DynamicCodes dynamic;
  Weight w;
  const bool is_dynamic = dynamic_codes_of(n->input(0), &dynamic);
  if ((!is_dynamic && !codes_of(n->input(0), &x)) || !channel_weight_of(n->input(1), &w)) return false;
  if (n->input(2) != nullptr && constant_tensor(n->input(2)) == nullptr) return false;
  if (is_dynamic && dynamic.per_token) return lower_per_token(lowering, n, dynamic, w);
  Target out;
  bool to_codes = target_of(*n, &out);
  // Codes are added to codes, floats to floats.
  const bool integer_residual = to_codes && n->input(3) != nullptr && codes_of(n->input(3), &residual);
  if (to_codes && n->input(3) != nullptr && !integer_residual) {
    AOQ_TRY(split_residual(lowering, n));
    to_codes = target_of(*n, &out);
  }
  if (!to_codes) out = Target{};
  Attributes a = n->attributes();
  if (!is_dynamic) set_in(a, "x", x);
  a.set("out_dtype", out.dtype);
  if (to_codes) set_out(a, out);
  if (integer_residual) set_in(a, "residual", residual);
  std::vector<Value*> inputs{is_dynamic ? dynamic.value : x.value, w.codes, scale_vector(lowering, n, w.scale),
                             n->input(2), integer_residual ? residual.value : n->input(3)};
  if (is_dynamic) inputs.insert(inputs.end(), {dynamic.scale, dynamic.zero_point});
  Op op = n->is(Op::conv) ? Op::qconv : Op::qlinear;
  AOQ_ASSIGN(LayoutNode made, create_channels_last(lowering.graph, n, op, std::move(inputs), std::move(a)));
  return lowering.accept(n, made, out);
}

}  // namespace aoq::lowering
