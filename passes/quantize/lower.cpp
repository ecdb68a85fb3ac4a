// lower: the stub pattern dequantize - float op - quantize becomes one integer op.
//
//   quantize(conv(dequantize(x), dequantize(w), b))     =>   qconv(x, w, w_scale, b) {x_scale, ..., out_scale, ...}
//   conv(dequantize(x), dequantize(w), b)               =>   qconv(...) {out_dtype = f32}
//   the same with a scale from choose_qparams           =>   qconv(..., scale, zero_point)
//   linear with a scale for each row of x               =>   act(qlinear(x, w, w_scale) {x_scale = 1} * scale + b)
//   quantize(add(dequantize(a), dequantize(b)))         =>   qadd(a, b)
//   quantize(f(dequantize(x)))  for elementwise f       =>   lookup(x, table of f over all codes)
//   quantize(move(dequantize(x)))  moves codes          =>   move(x), with requantize where the scales differ
//   lstm(dequantize(x), dequantize(w), dequantize(r))   =>   qlstm(x as float, w, r, w_scale, r_scale), with a scale
//                                                            from choose_qparams; the same for gru and rnn
//   gather(dequantize_rows(codes, ...), indices)        =>   qembedding(codes, ..., indices); embedding_bag too
//
// What does not match stays: a float op between dequantize and quantize is correct, only slower, and keeps its reason.
#include <algorithm>
#include <optional>

#include "passes/quantize/lowering.h"
#include "passes/quantize/scalar_qparams.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;
using namespace lowering;

// FX's dynamic float16: the reference graph rounds the activations, the kernels round the weights instead.
Status drop_half_stubs(Graph& graph) {
  for (Node* n : graph.nodes()) {
    if (!n->is(Op::cast) || n->scope.type != "Observer") continue;
    const Node& half = *n->input(0)->def();
    if (!half.is(Op::cast) || half.scope.type != "Observer") continue;
    const std::vector<Use> uses = n->output()->uses();
    graph.replace_uses(n->output(), half.input(0));
    for (const Use& use : uses) {
      const bool has_weights = use.user->is(Op::linear) || is_recurrent(*use.user);
      if (has_weights && constant_tensor(use.user->input(1)) != nullptr) {
        AOQ_TRY(round_weights_to_f16(graph, use.user));
      }
    }
  }
  return {};
}

bool has_scalar(const Node& n) {
  return is_scalar_constant(n.input(0)) || is_scalar_constant(n.input(1));
}

bool is_read_as_numbers(const Node& quantize) {
  const std::vector<Use>& uses = quantize.output()->uses();
  return std::all_of(uses.begin(), uses.end(), [](const Use& use) {
    return use.user->is(Op::dequantize) && use.user->inputs().size() == 1 && !use.user->attributes().has("scale");
  });
}

std::optional<TensorQParams> derived_scale(const Node& n) {
  Codes x;
  if (is_one_of(n, {Op::sigmoid, Op::hardsigmoid, Op::tanh})) {
    // The Sigmoid module alone is exchanged for one that has the observer's scale.
    if (n.is(Op::sigmoid) && n.scope.callee.empty()) return std::nullopt;
    if (!codes_of(n.input(0), &x) || x.dtype != DType::u8) return std::nullopt;
    return n.is(Op::tanh) ? TensorQParams{2.0 / 256.0, 128} : TensorQParams{1.0 / 256.0, 0};
  }
  if (!is_one_of(n, {Op::add, Op::mul}) || !has_scalar(n)) return std::nullopt;
  const std::size_t varying = is_scalar_constant(n.input(0)) ? 1 : 0;
  double scalar = 0;
  if (!codes_of(n.input(varying), &x) || x.dtype != DType::u8 || !scalar_constant(n.input(1 - varying), &scalar)) {
    return std::nullopt;
  }
  const TensorQParams from{static_cast<double>(x.scale), x.zero_point};
  return n.is(Op::add) ? add_scalar_qparams(from, scalar, {0, 255}) : mul_scalar_qparams(from, scalar, {0, 255});
}

// PyTorch's integer kernels of some functions do not take the observer's scale: sigmoid and tanh have theirs,
// arithmetic with a number derives it from the operand's (pytorch-semantics C.5). In the FX workflow so do ours.
Status take_derived_scales(Graph& graph) {
  for (Node* n : graph.nodes()) {
    Target out;
    if (n->inputs().empty() || !target_of(*n, &out) || out.dtype != DType::u8) continue;
    if (out.quantize->scope.type != "Observer" || !is_read_as_numbers(*out.quantize)) continue;
    const std::optional<TensorQParams> derived = derived_scale(*n);
    if (!derived) continue;
    out.quantize->set_attribute("scale", static_cast<double>(static_cast<float>(derived->scale)));
    out.quantize->set_attribute("zero_point", derived->zero_point);
    AOQ_TRY(graph.infer(out.quantize));
  }
  return {};
}

// The results of integer ops are plain codes: from here on a dequantize states its scale itself.
Status make_scales_explicit(Graph& graph) {
  for (Node* n : graph.nodes()) {
    Codes c;
    if (!n->is(Op::dequantize) || n->inputs().size() != 1 || n->attributes().has("scale") || !codes_of(n->output(), &c))
      continue;
    n->set_attribute("scale", static_cast<double>(c.scale));
    n->set_attribute("zero_point", c.zero_point);
    AOQ_TRY(graph.infer(n));
  }
  return {};
}

// Whether `n` gave way to an integer op.
Result<bool> lower(Lowering& lowering, Node* n) {
  if (is_declined(*n)) return false;
  if (is_one_of(*n, {Op::conv, Op::linear})) return lower_weighted(lowering, n);
  if (is_one_of(*n, {Op::lstm, Op::gru, Op::rnn})) return lower_recurrent(lowering, n);
  if (is_one_of(*n, {Op::gather, Op::embedding_bag})) {
    AOQ_ASSIGN(bool lowered, lower_embedding(lowering, n));
    if (lowered) return true;
  }
  Target out;
  if (n->inputs().empty()) return false;
  if (is_one_of(*n, {Op::add, Op::mul})) AOQ_TRY(fuse_relu(lowering, n));
  if (!target_of(*n, &out)) return false;
  if (is_one_of(*n, {Op::add, Op::mul}) && !has_scalar(*n)) return lower_binary(lowering, n, out);
  if (n->is(Op::matmul)) return lower_binary(lowering, n, out);
  if (is_one_of(*n, {Op::avg_pool, Op::reduce_mean})) return lower_average(lowering, n, out);
  if (n->is(Op::concat)) return lower_concat(lowering, n, out);
  if (moves_codes(*n)) return lower_move(lowering, n, out);
  if (n->def().has_trait(kElementwise)) return lower_lookup(lowering, n, out);
  return false;
}

Result<bool> run(Graph& graph, PassContext& context) {
  if (graph.stage == Stage::lowered) return false;
  if (graph.stage == Stage::prepared) {
    return error(Code::invalid_argument, "the graph is prepared, expected converted or float: run convert first");
  }
  graph.stage = Stage::lowered;
  AOQ_TRY(drop_half_stubs(graph));
  AOQ_TRY(take_derived_scales(graph));
  AOQ_TRY(make_scales_explicit(graph));
  Lowering lowering{graph, context.target};
  for (Node* n = graph.first(); n != nullptr; n = lowering.next) {
    lowering.next = n->next();
    AOQ_TRY(lower(lowering, n).status());
  }
  return true;
}

}  // namespace

extern const PassDef kPass_lower;
const PassDef kPass_lower = {.name = "lower",
                             .summary = "Turns the stub pattern dequantize - op - quantize into integer ops.",
                             .kind = PassKind::stage,
                             .run = run};

}  // namespace aoq
