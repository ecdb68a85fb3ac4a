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
#include <cmath>
#include <optional>

#include "ir/epilogue.h"
#include "ir/interpreter.h"
#include "ir/target.h"
#include "passes/quantize/scalar_qparams.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"
#include "passes/rewrite/layout.h"

namespace aoq {

namespace {

using namespace rewrite;

// A value seen as codes with a static scale.
struct Codes {
  Value* value = nullptr;
  float scale = 1.0f;
  std::int64_t zero_point = 0;
  DType dtype = DType::u8;
};

bool is_byte(DType d) {
  return d == DType::u8 || d == DType::i8;
}

// What a per-tensor static dequantize reads.
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

// The same for scales that choose_qparams makes at run time: one for the whole tensor, or one for each row of the last
// axis with zero points of 0.
struct DynamicCodes {
  Value* value = nullptr;
  Value* scale = nullptr;
  Value* zero_point = nullptr;
  bool per_token = false;
};

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

// A constant of one element.
bool is_scalar_constant(const Value* v) {
  const Tensor* t = v == nullptr ? nullptr : constant_tensor(v);
  return t != nullptr && t->element_count() == 1;
}

// The quantize that is the only reader of a float value.
struct Target {
  Node* quantize = nullptr;
  float scale = 1.0f;
  std::int64_t zero_point = 0;
  DType dtype = DType::f32;
};

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

// The codes of `v` as `n` will read them. Quantized types end here: after lowering scales are explicit.
class Lowering {
 public:
  Lowering(Graph& graph, const TargetInfo* target) : graph_(graph), target_(target) {}

  Result<bool> run() {
    bool changed = false;
    AOQ_TRY(drop_half_stubs());
    AOQ_TRY(take_derived_scales());
    AOQ_TRY(make_scales_explicit());
    for (Node* n = graph_.first(); n != nullptr;) {
      next_ = n->next();
      AOQ_ASSIGN(bool lowered, lower(n));
      changed = changed || lowered;
      n = next_;
    }
    return changed;
  }

 private:
  Result<bool> lower(Node* n) {
    if (is_declined(*n)) return false;
    if (is_one_of(*n, {Op::conv, Op::linear})) return lower_weighted(n);
    if (is_one_of(*n, {Op::lstm, Op::gru, Op::rnn})) return lower_recurrent(n);
    if (is_one_of(*n, {Op::gather, Op::embedding_bag})) {
      AOQ_ASSIGN(bool lowered, lower_embedding(n));
      if (lowered) return true;
    }
    Target out;
    if (n->inputs().empty()) return false;
    if (is_one_of(*n, {Op::add, Op::mul})) AOQ_TRY(fuse_relu(n));
    if (!target_of(*n, &out)) return false;
    if (is_one_of(*n, {Op::add, Op::mul}) && !has_scalar(*n)) return lower_binary(n, out);
    if (n->is(Op::matmul)) return lower_matmul(n, out);
    if (is_one_of(*n, {Op::avg_pool, Op::reduce_mean})) return lower_average(n, out);
    if (n->is(Op::concat)) return lower_concat(n, out);
    if (moves_codes(*n)) return lower_move(n, out);
    if (n->def().has_trait(kElementwise)) return lower_lookup(n, out);
    return false;
  }

  static bool has_scalar(const Node& n) { return is_scalar_constant(n.input(0)) || is_scalar_constant(n.input(1)); }

  // FX's dynamic float16: the reference graph rounds the activations, the kernels round the weights instead.
  Status drop_half_stubs() {
    for (Node* n : graph_.nodes()) {
      if (!n->is(Op::cast) || n->scope.type != "Observer") continue;
      const Node& half = *n->input(0)->def();
      if (!half.is(Op::cast) || half.scope.type != "Observer") continue;
      const std::vector<Use> uses = n->output()->uses();
      graph_.replace_uses(n->output(), half.input(0));
      for (const Use& use : uses) {
        const bool has_weights = use.user->is(Op::linear) || is_recurrent(*use.user);
        if (has_weights && constant_tensor(use.user->input(1)) != nullptr) {
          AOQ_TRY(round_weights_to_f16(graph_, use.user));
        }
      }
    }
    return {};
  }

  // PyTorch's integer kernels of some functions do not take the observer's scale: sigmoid and tanh have theirs,
  // arithmetic with a number derives it from the operand's (pytorch-semantics C.5). In the FX workflow so do ours.
  Status take_derived_scales() {
    for (Node* n : graph_.nodes()) {
      Target out;
      if (n->inputs().empty() || !target_of(*n, &out) || out.dtype != DType::u8) continue;
      if (out.quantize->scope.type != "Observer" || !is_read_as_numbers(*out.quantize)) continue;
      const std::optional<TensorQParams> derived = derived_scale(*n);
      if (!derived) continue;
      out.quantize->set_attribute("scale", static_cast<double>(static_cast<float>(derived->scale)));
      out.quantize->set_attribute("zero_point", derived->zero_point);
      AOQ_TRY(graph_.infer(out.quantize));
    }
    return {};
  }

  static bool is_read_as_numbers(const Node& quantize) {
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

  // The results of integer ops are plain codes: from here on a dequantize states its scale itself.
  Status make_scales_explicit() {
    for (Node* n : graph_.nodes()) {
      Codes c;
      if (!n->is(Op::dequantize) || n->inputs().size() != 1 || n->attributes().has("scale") ||
          !codes_of(n->output(), &c))
        continue;
      n->set_attribute("scale", static_cast<double>(c.scale));
      n->set_attribute("zero_point", c.zero_point);
      AOQ_TRY(graph_.infer(n));
    }
    return {};
  }

  // Replaces n (and the quantize behind it) by `made`, unless the target has no kernel for it: then what was made is
  // dead and dce removes it. Integer convolutions and pools are made channels-last, as targets want them.
  Result<bool> accept(Node* n, const LayoutNode& made, const Target& out) {
    if (target_ != nullptr) {
      Status supported = target_->supports(*made.node);
      if (!supported.ok()) {
        n->reason = supported.message();
        return false;
      }
    }
    if (out.quantize != nullptr) {
      if (next_ == out.quantize) next_ = out.quantize->next();
      replace_node(graph_, out.quantize, made.result->output());
      graph_.erase(n);
    } else {
      replace_node(graph_, n, made.result->output());
    }
    return true;
  }
  Result<bool> accept(Node* n, Node* made, const Target& out) { return accept(n, LayoutNode{made, made}, out); }

  // ---- conv and linear

  struct Weight {
    Value* codes = nullptr;
    Value* scale = nullptr;
  };

  bool weight_of(const Value* v, Weight* out) {
    if (v == nullptr || !v->def()->is(Op::dequantize)) return false;
    const Node& dq = *v->def();
    const Tensor* codes = constant_tensor(dq.input(0));
    const Tensor* scale = constant_tensor(dq.input(1));
    if (codes == nullptr || scale == nullptr || codes->dtype() != DType::i8 || !is_symmetric(dq.input(2))) return false;
    bool per_channel = dq.attributes().string("granularity") == "axis" && dq.attributes().integer("axis") == 0;
    if (!per_channel && scale->element_count() != 1) return false;
    out->codes = dq.input(0);
    out->scale = dq.input(1);
    return true;
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

  Result<bool> lower_weighted(Node* n) {
    Codes x, residual;
    DynamicCodes dynamic;
    Weight w;
    const bool is_dynamic = dynamic_codes_of(n->input(0), &dynamic);
    if ((!is_dynamic && !codes_of(n->input(0), &x)) || !weight_of(n->input(1), &w)) return false;
    if (n->input(2) != nullptr && constant_tensor(n->input(2)) == nullptr) return false;
    if (is_dynamic && dynamic.per_token) return lower_per_token(n, dynamic, w);
    Target out;
    bool to_codes = target_of(*n, &out);
    // Codes are added to codes, floats to floats.
    const bool integer_residual = to_codes && n->input(3) != nullptr && codes_of(n->input(3), &residual);
    if (to_codes && n->input(3) != nullptr && !integer_residual) {
      AOQ_TRY(split_residual(n));
      to_codes = target_of(*n, &out);
    }
    if (!to_codes) out = Target{};
    Attributes a = n->attributes();
    if (!is_dynamic) set_in(a, "x", x);
    a.set("out_dtype", out.dtype);
    if (to_codes) set_out(a, out);
    if (integer_residual) set_in(a, "residual", residual);
    std::vector<Value*> inputs{is_dynamic ? dynamic.value : x.value, w.codes, scale_vector(n, w.scale), n->input(2),
                               integer_residual ? residual.value : n->input(3)};
    if (is_dynamic) inputs.insert(inputs.end(), {dynamic.scale, dynamic.zero_point});
    Op op = n->is(Op::conv) ? Op::qconv : Op::qlinear;
    AOQ_ASSIGN(LayoutNode made, create_channels_last(graph_, n, op, std::move(inputs), std::move(a)));
    return accept(n, made, out);
  }

  // The product is made in steps of x's scales, and each row takes its own afterwards.
  Result<bool> lower_per_token(Node* n, const DynamicCodes& x, const Weight& w) {
    if (!n->is(Op::linear)) return false;
    if (n->input(3) != nullptr) AOQ_TRY(split_residual(n));
    Attributes a{{"x_scale", 1.0}, {"x_zero_point", std::int64_t{0}}, {"out_dtype", DType::f32}};
    AOQ_ASSIGN(Node * product,
               graph_.create_like(*n, Op::qlinear, {x.value, w.codes, scale_vector(n, w.scale)}, std::move(a), n));
    AOQ_ASSIGN(Node * last, node_beside(graph_, *n, Op::mul, {product->output(), x.scale}, n));
    if (n->input(2) != nullptr) {
      AOQ_ASSIGN(last, node_beside(graph_, *n, Op::add, {last->output(), n->input(2)}, n));
    }
    AOQ_ASSIGN(last, split_activation(graph_, *n, last, n));
    return accept(n, LayoutNode{product, last}, Target{});
  }

  // ---- recurrent ops and embeddings

  // Weights [d, M, K] with scales [d], or [d, M, 1] as [d, M].
  bool recurrent_weight_of(const Value* v, Weight* out) {
    if (v == nullptr || !v->def()->is(Op::dequantize)) return false;
    const Node& dq = *v->def();
    const Tensor* codes = constant_tensor(dq.input(0));
    const Tensor* scale = constant_tensor(dq.input(1));
    if (codes == nullptr || scale == nullptr || codes->dtype() != DType::i8 || !is_symmetric(dq.input(2))) return false;
    const std::string& granularity = dq.attributes().string("granularity");
    if (granularity != "token" && (granularity != "axis" || dq.attributes().integer("axis") != 0)) return false;
    *out = {dq.input(0), dq.input(1)};
    return true;
  }

  Value* without_last_axis(Node* n, Value* scale) {
    if (scale->type().rank() == 1) return scale;
    const Tensor& t = *constant_tensor(scale);
    Result<Tensor> matrix = t.reshaped({t.shape()[0], t.shape()[1]});
    AOQ_CHECK(matrix.ok());
    return graph_.constant(std::move(*matrix), n);
  }

  // The op quantizes x itself, and its state in every step, as choose_qparams in front of it says.
  // x as floats, which the integer op quantizes, with what the op must know; null where there is no such form.
  struct RecurrentX {
    Value* value = nullptr;
    Attributes attributes;
  };
  static RecurrentX recurrent_x(const Node& n) {
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

  Result<bool> lower_recurrent(Node* n) {
    Weight w, r;
    if (!recurrent_weight_of(n->input(1), &w) || !recurrent_weight_of(n->input(2), &r)) return false;
    RecurrentX x = recurrent_x(*n);
    if (x.value == nullptr) return false;
    std::vector<Value*> inputs{x.value, w.codes, r.codes, without_last_axis(n, w.scale), without_last_axis(n, r.scale)};
    inputs.insert(inputs.end(), n->inputs().begin() + 3, n->inputs().end());
    Attributes a = std::move(x.attributes);
    const Op op = n->is(Op::lstm) ? Op::qlstm : n->is(Op::gru) ? Op::qgru : Op::qrnn;
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, op, std::move(inputs), std::move(a), n));
    Status supported = target_ == nullptr ? Status() : target_->supports(*made);
    if (!supported.ok()) {
      n->reason = supported.message();
      return back_to_float(n, x.value);
    }
    for (std::size_t i = 0; i < n->output_count(); ++i) graph_.replace_uses(n->output(i), made->output(i));
    graph_.erase(n);
    return true;
  }

  // What cannot run on integers reads x as it is and rounded weights as floats, which its float kernels take.
  Result<bool> back_to_float(Node* n, Value* x) {
    graph_.set_input(n, 0, x);
    for (std::size_t i : {std::size_t{1}, std::size_t{2}}) {
      const Node& dq = *n->input(i)->def();
      const std::vector<Tensor> inputs{*constant_tensor(dq.input(0)), *constant_tensor(dq.input(1)), Tensor()};
      AOQ_ASSIGN(std::vector<Tensor> weight, evaluate_node(dq, std::span(inputs).first(dq.inputs().size())));
      graph_.set_input(n, i, graph_.constant(std::move(weight[0]), n, dq.label()));
    }
    if (n->attributes().has("state_scale")) AOQ_TRY(keep_state(n));
    return false;
  }

  // The same node with its state in float.
  Status keep_state(Node* n) {
    Attributes a = n->attributes();
    a.erase("state_scale");
    a.erase("state_zero_point");
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, n->op(), n->inputs(), std::move(a), n));
    made->reason = n->reason;
    for (std::size_t i = 0; i < n->output_count(); ++i) graph_.replace_uses(n->output(i), made->output(i));
    graph_.erase(n);
    return {};
  }

  Result<bool> lower_embedding(Node* n) {
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
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, Op::qembedding, std::move(inputs), std::move(a), n));
    return accept(n, made, Target{});
  }

  // A per-tensor scale as the one-element vector that qconv and qlinear take.
  Value* scale_vector(Node* n, Value* scale) {
    if (scale->type().rank() == 1) return scale;
    Result<Tensor> t = constant_tensor(scale)->reshaped({1});
    AOQ_CHECK(t.ok());
    return graph_.constant(std::move(*t), n);
  }

  // A float residual cannot be added to codes: conv(x, w, b, r) {act} becomes act(add(conv(x, w, b), r)) again.
  Status split_residual(Node* n) {
    Value* residual = n->input(3);
    graph_.set_input(n, 3, nullptr);
    AOQ_ASSIGN(Node * sum, node_beside(graph_, *n, Op::add, {n->output(), residual}, n->next()));
    AOQ_ASSIGN(Node * last, split_activation(graph_, *n, sum, sum->next()));
    n->set_attribute("activation", std::string("none"));
    sum->reason.clear();
    last->reason.clear();
    std::vector<Use> uses = n->output()->uses();
    for (const Use& use : uses) {
      if (use.user != sum) graph_.set_input(use.user, static_cast<std::size_t>(use.operand), last->output());
    }
    return {};
  }

  // ---- arithmetic on codes

  // quantize(relu(add(...))): rounding keeps the order of numbers, so relu may come after it:
  // relu(dequantize(quantize(add(...)))), whose codes are a clamp.
  Status fuse_relu(Node* n) {
    Node* relu = only_user(n->output());
    Target out;
    if (relu == nullptr || !relu->is(Op::relu) || !target_of(*relu, &out)) return {};
    for (const Value* v : n->inputs()) {
      Codes operand;
      if (!is_scalar_constant(v) && !codes_of(v, &operand)) return {};  // stays in float, and relu with it
    }
    Node* q = out.quantize;
    AOQ_ASSIGN(Node * before, graph_.create_like(*q, Op::quantize, {n->output()}, q->attributes(), relu));
    Attributes scale{{"scale", static_cast<double>(out.scale)}, {"zero_point", out.zero_point}};
    AOQ_ASSIGN(Node * dq, graph_.create_like(*q, Op::dequantize, {before->output()}, std::move(scale), relu));
    graph_.set_input(relu, 0, dq->output());
    if (next_ == relu) next_ = before;
    return {};
  }

  Result<bool> lower_binary(Node* n, const Target& out) {
    Codes a, b;
    if (!codes_of(n->input(0), &a) || !codes_of(n->input(1), &b)) return false;
    Attributes attributes;
    set_in(attributes, "a", a);
    set_in(attributes, "b", b);
    set_out(attributes, out);
    Op op = n->is(Op::add) ? Op::qadd : Op::qmul;
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, op, {a.value, b.value}, std::move(attributes), n));
    return accept(n, made, out);
  }

  Result<bool> lower_matmul(Node* n, const Target& out) {
    Codes a, b;
    if (!codes_of(n->input(0), &a) || !codes_of(n->input(1), &b)) return false;
    Attributes attributes;
    set_in(attributes, "a", a);
    set_in(attributes, "b", b);
    set_out(attributes, out);
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, Op::qmatmul, {a.value, b.value}, std::move(attributes), n));
    return accept(n, made, out);
  }

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

  Result<bool> lower_average(Node* n, const Target& out) {
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
    AOQ_ASSIGN(LayoutNode made, create_channels_last(graph_, n, Op::qavg_pool, {x.value}, std::move(a)));
    if (is_mean && !n->attributes().boolean("keepdims")) {
      AOQ_ASSIGN(made.result, graph_.create_like(*n, Op::reshape, {made.result->output()},
                                                 {{"shape", n->output()->type().shape}}, n));
    }
    return accept(n, made, out);
  }

  // ---- moving codes

  static bool moves_codes(const Node& n) {
    if (n.is(Op::resize)) return n.attributes().string("mode") == "nearest";
    if (n.is(Op::pad)) return true;
    return n.def().rule == QuantRule::passthrough || n.is(Op::max_pool);
  }

  Result<Value*> requantized(Node* at, const Codes& from, const Target& to) {
    if (from.scale == to.scale && from.zero_point == to.zero_point && from.dtype == to.dtype) return from.value;
    Attributes a;
    set_in(a, "x", from);
    set_out(a, to);
    AOQ_ASSIGN(Node * made, graph_.create_like(*at, Op::requantize, {from.value}, std::move(a), at));
    return made->output();
  }

  Result<bool> lower_move(Node* n, const Target& out) {
    Codes x;
    if (!codes_of(n->input(0), &x)) return false;
    Attributes a = n->attributes();
    if (n->is(Op::pad)) {
      // The padding value as a code; one that is not representable stays float.
      if (a.string("mode") == "constant") {
        double code =
            std::nearbyint(a.real("value") / static_cast<double>(x.scale)) + static_cast<double>(x.zero_point);
        if (code < dtype_info(x.dtype).min || code > dtype_info(x.dtype).max) return false;
        a.set("value", code);
      }
    }
    std::vector<Value*> inputs = n->inputs();
    inputs[0] = x.value;
    AOQ_ASSIGN(LayoutNode moved, create_channels_last(graph_, n, n->op(), std::move(inputs), std::move(a)));
    x.value = moved.result->output();
    AOQ_ASSIGN(Value * codes, requantized(n, x, out));
    return accept(n, LayoutNode{moved.node, codes->def()}, out);
  }

  Result<bool> lower_concat(Node* n, const Target& out) {
    std::vector<Value*> inputs;
    std::vector<Codes> all;
    for (Value* v : n->inputs()) {
      Codes c;
      if (!codes_of(v, &c)) return false;
      all.push_back(c);
    }
    for (const Codes& c : all) {
      AOQ_ASSIGN(Value * v, requantized(n, c, out));
      inputs.push_back(v);
    }
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, Op::concat, std::move(inputs), n->attributes(), n));
    return accept(n, made, out);
  }

  // Any function of one element is a table over its 256 codes; scalar constants are part of the function.
  Result<bool> lower_lookup(Node* n, const Target& out) {
    Codes x;
    std::size_t varying = n->inputs().size();
    for (std::size_t i = 0; i < n->inputs().size(); ++i) {
      if (is_scalar_constant(n->input(i))) continue;
      if (varying < n->inputs().size() || !codes_of(n->input(i), &x)) return false;
      varying = i;
    }
    if (varying == n->inputs().size() || n->input(varying)->type().dtype != DType::f32) return false;
    if (n->output()->type().dtype != DType::f32 || n->output()->type().shape != n->input(varying)->type().shape) {
      return false;
    }
    // PyTorch adds a scalar as a whole number of steps, where the result's scale follows from the input's.
    const std::optional<AddedSteps> added = added_steps(*n, varying, x, out);
    const float unit = added ? 1.0f : x.scale;
    AOQ_ASSIGN(Tensor values, Tensor::make(DType::f32, {256}));
    std::span<float> reals = values.mutable_as<float>();
    std::int64_t lowest = x.dtype == DType::u8 ? 0 : -128;
    for (std::int64_t i = 0; i < 256; ++i) {
      reals[static_cast<std::size_t>(i)] =
          static_cast<float>(i + lowest - x.zero_point + (added ? added->steps : 0)) * unit;
    }
    if (!added) {
      std::vector<Tensor> inputs;
      for (std::size_t i = 0; i < n->inputs().size(); ++i) {
        inputs.push_back(i == varying ? values : *constant_tensor(n->input(i)));
      }
      AOQ_ASSIGN(Tensor flat, evaluate_on(*n, varying, std::move(inputs)));
      values = std::move(flat);
    }
    AOQ_ASSIGN(Tensor table, Tensor::make(out.dtype, {256}));
    const float inverse = added ? added->multiplier : 1.0f / out.scale;
    auto low = static_cast<std::int32_t>(dtype_info(out.dtype).min),
         high = static_cast<std::int32_t>(dtype_info(out.dtype).max);
    for (std::int64_t i = 0; i < 256; ++i) {
      store_integer(out.dtype, table.mutable_bytes().data(), i,
                    quantize_value(values.as<float>()[static_cast<std::size_t>(i)], inverse,
                                   static_cast<std::int32_t>(out.zero_point), low, high));
    }
    Value* source = x.value;
    while (const Tensor* first = table_of(source)) {
      AOQ_ASSIGN(table, composed(*first, table));
      merge_origins(n, source->def());
      source = source->def()->input(0);
    }
    Value* constant = graph_.constant(std::move(table), n, n->label() + ".table");
    AOQ_ASSIGN(Node * made, graph_.create_like(*n, Op::lookup, {source, constant}, {}, n));
    return accept(n, made, out);
  }

  // The table that gives these codes; null where they come from elsewhere.
  static const Tensor* table_of(const Value* codes) {
    return codes->def()->is(Op::lookup) ? constant_tensor(codes->def()->input(1)) : nullptr;
  }

  // The table of one function after another.
  static Result<Tensor> composed(const Tensor& first, const Tensor& second) {
    AOQ_ASSIGN(Tensor table, Tensor::make(second.dtype(), {256}));
    const std::int64_t offset = first.dtype() == DType::i8 ? 128 : 0;
    for (std::int64_t i = 0; i < 256; ++i) {
      const std::int64_t at = load_integer(first.dtype(), first.bytes().data(), i) + offset;
      store_integer(second.dtype(), table.mutable_bytes().data(), i,
                    load_integer(second.dtype(), second.bytes().data(), at));
    }
    return table;
  }

  // The node's function on 256 numbers in place of input `varying`.
  Result<Tensor> evaluate_on(const Node& n, std::size_t varying, std::vector<Tensor> inputs) {
    Graph one;
    std::vector<Value*> operands;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (i != varying && inputs[i].shape().size() > 1) {
        AOQ_ASSIGN(inputs[i], inputs[i].reshaped({1}));
      }
      operands.push_back(one.constant(inputs[i]));
    }
    AOQ_ASSIGN(Node * made, one.create(n.op(), operands, n.attributes()));
    AOQ_ASSIGN(std::vector<Tensor> results, evaluate_node(*made, inputs));
    return std::move(results[0]);
  }

  struct AddedSteps {
    std::int64_t steps = 0;
    float multiplier = 1.0f;  // from steps of x to steps of the result
  };

  // How many steps of x's scale `n` adds, when n is an addition of a scalar as FX converts it.
  std::optional<AddedSteps> added_steps(const Node& n, std::size_t varying, const Codes& x, const Target& out) {
    if (!n.is(Op::add) || x.dtype != out.dtype) return std::nullopt;
    double scalar = 0;
    if (!scalar_constant(n.input(1 - varying), &scalar)) return std::nullopt;
    const QRange range{static_cast<std::int64_t>(dtype_info(x.dtype).min),
                       static_cast<std::int64_t>(dtype_info(x.dtype).max)};
    const TensorQParams derived = add_scalar_qparams({static_cast<double>(x.scale), x.zero_point}, scalar, range);
    // The scale was derived in double from a scale in double; both are floats here.
    const double relative = std::fabs(derived.scale / static_cast<double>(out.scale) - 1.0);
    if (relative > 0x1p-22 || derived.zero_point != out.zero_point) return std::nullopt;
    const double scale = static_cast<double>(x.scale);
    return AddedSteps{scalar_steps(scale, scalar), static_cast<float>(scale / derived.scale)};
  }

  Graph& graph_;
  const TargetInfo* target_;
  Node* next_ = nullptr;
};

Result<bool> run(Graph& graph, PassContext& context) {
  if (graph.stage == Stage::lowered) return false;
  if (graph.stage == Stage::prepared) {
    return error(Code::invalid_argument, "the graph is prepared, expected converted or float: run convert first");
  }
  graph.stage = Stage::lowered;
  AOQ_TRY(Lowering(graph, context.target).run().status());
  return true;
}

}  // namespace

extern const PassDef kPass_lower;
const PassDef kPass_lower = {.name = "lower",
                             .summary = "Turns the stub pattern dequantize - op - quantize into integer ops.",
                             .kind = PassKind::stage,
                             .run = run};

}  // namespace aoq
