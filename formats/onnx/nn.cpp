// Layers: convolution, pooling, matrix products, normalisation, softmax.
#include <algorithm>

#include "formats/onnx/window.h"

namespace aoq::onnx {

namespace {

std::vector<std::int64_t> axes_from(std::int64_t first, std::int64_t rank) {
  std::vector<std::int64_t> axes;
  for (std::int64_t i = first; i < rank; ++i) axes.push_back(i);
  return axes;
}

Status global_pool(NodeContext& c, Op op) {
  AOQ_ASSIGN(Value * x, c.input(0));
  if (x->type().rank() < 3) return c.invalid("input has rank {}, expected at least 3", x->type().rank());
  return c.result(c.emit(op, {x}, {{"axes", axes_from(2, x->type().rank())}, {"keepdims", true}}));
}

Status global_average_pool(NodeContext& c) {
  return global_pool(c, Op::reduce_mean);
}
Status global_max_pool(NodeContext& c) {
  return global_pool(c, Op::reduce_max);
}

Status global_lp_pool(NodeContext& c) {
  std::int64_t p = c.integer("p", 2);
  if (p != 1 && p != 2) return c.unsupported("p = {} is not supported, only 1 and 2", p);
  return global_pool(c, p == 1 ? Op::reduce_l1 : Op::reduce_l2);
}

Status batch_norm(NodeContext& c) {
  c.ignore({"momentum"});
  c.only("training_mode", 0);
  c.only("spatial", 1);
  for (std::size_t i = 1; i < 5; ++i) {
    if (c.wants(i)) return c.unsupported("output {} is for training; export the model for inference", i);
  }
  std::vector<Value*> inputs;
  for (std::size_t i = 0; i < 5; ++i) {
    AOQ_ASSIGN(Value * v, c.input(i));
    if (i > 0) {
      AOQ_ASSIGN(v, c.cast(v, inputs[0]->type().dtype));
    }
    inputs.push_back(v);
  }
  double epsilon = c.real("epsilon", static_cast<double>(1e-5f));
  return c.result(c.emit(Op::batch_norm, std::move(inputs), {{"epsilon", epsilon}}));
}

Status instance_norm(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * scale, c.input(1));
  AOQ_ASSIGN(Value * bias, c.input(2));
  double epsilon = c.real("epsilon", static_cast<double>(1e-5f));
  return c.result(c.emit(Op::instance_norm, {x, scale, bias}, {{"epsilon", epsilon}}));
}

// Opset 18 has one scale per group, later ones one per channel.
Result<Value*> per_channel(NodeContext& c, Value* v, std::int64_t groups, const Dim& channels) {
  if (c.opset() >= 21 || v->type().shape == std::vector<Dim>{channels}) return v;
  AOQ_ASSIGN(Value * column, c.reshape(v, {Dim(groups), Dim(1)}));
  AOQ_ASSIGN(Value * wide, c.expand(column, {Dim(groups), floor_div(channels, Dim(groups))}));
  return c.reshape(wide, {channels});
}

Status group_norm(NodeContext& c) {
  c.ignore({"stash_type"});
  std::int64_t groups = c.required_integer("num_groups");
  if (groups < 1) return c.invalid("num_groups is {}", groups);
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * scale, c.input(1));
  AOQ_ASSIGN(Value * bias, c.input(2));
  if (x->type().rank() < 2) return c.invalid("input has rank {}, expected at least 2", x->type().rank());
  AOQ_ASSIGN(scale, per_channel(c, scale, groups, x->type().shape[1]));
  AOQ_ASSIGN(bias, per_channel(c, bias, groups, x->type().shape[1]));
  Attributes attributes{{"groups", groups}, {"epsilon", c.real("epsilon", static_cast<double>(1e-5f))}};
  return c.result(c.emit(Op::group_norm, {x, scale, bias}, std::move(attributes)));
}

// The statistics that LayerNormalization may hand out beside its result.
Status layer_norm_statistics(NodeContext& c, Value* x, std::int64_t axis, double epsilon) {
  if (!c.wants(1) && !c.wants(2)) return {};
  Attributes over{{"axes", axes_from(axis, x->type().rank())}, {"keepdims", true}};
  AOQ_ASSIGN(Value * mean, c.emit(Op::reduce_mean, {x}, over));
  AOQ_ASSIGN(Value * centered, c.emit(Op::sub, {x, mean}));
  AOQ_ASSIGN(Value * square, c.emit(Op::mul, {centered, centered}));
  AOQ_ASSIGN(Value * variance, c.emit(Op::reduce_mean, {square}, over));
  AOQ_ASSIGN(Value * shifted, c.emit(Op::add, {variance, c.scalar(x->type().dtype, epsilon)}));
  AOQ_TRY(c.result(mean, 1));
  return c.result(c.emit(Op::rsqrt, {shifted}), 2);
}

// A scale that has exactly the normalised shape is an operand of the op; another one is applied afterwards.
Status normalize(NodeContext& c, Op op) {
  c.ignore({"stash_type"});
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * scale, c.input(1));
  AOQ_ASSIGN(Value * bias, c.optional_input(2));
  AOQ_ASSIGN(std::int64_t axis, normalized(c.integer("axis", -1), x->type().rank()));
  double epsilon = c.real("epsilon", static_cast<double>(1e-5f));
  if (op == Op::layer_norm) AOQ_TRY(layer_norm_statistics(c, x, axis, epsilon));
  std::vector<Dim> inner(x->type().shape.begin() + axis, x->type().shape.end());
  bool fits = scale->type().shape == inner && (bias == nullptr || bias->type().shape == inner);
  Attributes attributes{{"axis", axis}, {"epsilon", epsilon}};
  if (fits) {
    std::vector<Value*> inputs{x, scale};
    if (bias) inputs.push_back(bias);
    return c.result(c.emit(op, std::move(inputs), std::move(attributes)));
  }
  AOQ_ASSIGN(Value * y, c.emit(op, {x}, std::move(attributes)));
  AOQ_ASSIGN(y, c.emit(Op::mul, {y, scale}));
  return c.result(bias ? c.emit(Op::add, {y, bias}) : Result<Value*>(y));
}

Status layer_norm(NodeContext& c) {
  return normalize(c, Op::layer_norm);
}
Status rms_norm(NodeContext& c) {
  return normalize(c, Op::rms_norm);
}

Status local_response_norm(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  Attributes attributes{{"size", c.required_integer("size")},
                        {"alpha", c.real("alpha", static_cast<double>(1e-4f))},
                        {"beta", c.real("beta", 0.75)},
                        {"bias", c.real("bias", 1.0)}};
  return c.result(c.emit(Op::local_response_norm, {x}, std::move(attributes)));
}

Status lp_norm(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  std::int64_t p = c.integer("p", 2);
  if (p != 1 && p != 2) return c.unsupported("p = {} is not supported, only 1 and 2", p);
  AOQ_ASSIGN(std::int64_t axis, normalized(c.integer("axis", -1), x->type().rank()));
  Attributes over{{"axes", std::vector<std::int64_t>{axis}}, {"keepdims", true}};
  AOQ_ASSIGN(Value * norm, c.emit(p == 1 ? Op::reduce_l1 : Op::reduce_l2, {x}, std::move(over)));
  // A row of zeros stays zero.
  Value* zero = c.scalar(x->type().dtype, 0);
  AOQ_ASSIGN(Value * is_zero, c.emit(Op::equal, {norm, zero}));
  AOQ_ASSIGN(Value * divisor, c.emit(Op::where, {is_zero, c.scalar(x->type().dtype, 1), norm}));
  return c.result(c.emit(Op::div, {x, divisor}));
}

Status mean_variance_norm(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  Attributes over{{"axes", c.integers("axes", {0, 2, 3})}, {"keepdims", true}};
  AOQ_ASSIGN(Value * mean, c.emit(Op::reduce_mean, {x}, over));
  AOQ_ASSIGN(Value * centered, c.emit(Op::sub, {x, mean}));
  AOQ_ASSIGN(Value * square, c.emit(Op::mul, {centered, centered}));
  AOQ_ASSIGN(Value * variance, c.emit(Op::reduce_mean, {square}, over));
  AOQ_ASSIGN(Value * deviation, c.emit(Op::sqrt, {variance}));
  AOQ_ASSIGN(Value * divisor, c.emit(Op::add, {deviation, c.scalar(x->type().dtype, static_cast<double>(1e-9f))}));
  return c.result(c.emit(Op::div, {centered, divisor}));
}

Result<Value*> hardmax_of(NodeContext& c, Value* x, std::int64_t axis) {
  const Dim& depth = x->type().shape[static_cast<std::size_t>(axis)];
  if (!depth.is_constant())
    return error(Code::unsupported, "axis {} is {}: bind its symbols to numbers", axis, depth.to_string());
  AOQ_ASSIGN(Value * best, c.emit(Op::argmax, {x}, {{"axis", axis}, {"keepdims", false}}));
  return c.emit(Op::one_hot, {best}, {{"depth", depth.constant()}, {"axis", axis}, {"dtype", x->type().dtype}});
}

Result<Value*> softmax_of(NodeContext& c, Op op, Value* x, std::int64_t axis) {
  if (op == Op::argmax) return hardmax_of(c, x, axis);
  return c.emit(op, {x}, {{"axis", axis}});
}

// Before opset 13 the axis split the dimensions into two, and the function ran over all of the second part.
Status softmax_like(NodeContext& c, Op op) {
  AOQ_ASSIGN(Value * x, c.input(0));
  std::int64_t rank = x->type().rank();
  bool is_flat = c.opset() < 13;
  AOQ_ASSIGN(std::int64_t axis, normalized(c.integer("axis", is_flat ? 1 : -1), rank));
  if (!is_flat || axis == rank - 1) return c.result(softmax_of(c, op, x, axis));
  std::vector<Dim> shape = x->type().shape;
  std::span<const Dim> all(shape);
  auto at = static_cast<std::size_t>(axis);
  AOQ_ASSIGN(Value * flat, c.reshape(x, {product(all.first(at)), product(all.subspan(at))}));
  AOQ_ASSIGN(Value * y, softmax_of(c, op, flat, 1));
  return c.result(c.reshape(y, std::move(shape)));
}

Status softmax(NodeContext& c) {
  return softmax_like(c, Op::softmax);
}
Status log_softmax(NodeContext& c) {
  return softmax_like(c, Op::log_softmax);
}
Status hardmax(NodeContext& c) {
  return softmax_like(c, Op::argmax);
}

const Handler kHandlers[] = {
    {"AveragePool", 7, 0, 1, 1, 1, import_average_pool},
    {"BatchNormalization", 7, 0, 5, 5, 5, batch_norm},
    {"Conv", 7, 0, 2, 3, 1, import_conv},
    {"ConvTranspose", 7, 0, 2, 3, 1, import_conv_transpose},
    {"Einsum", 12, 0, 1, kAnyNumber, 1, import_einsum},
    {"Gemm", 7, 0, 2, 3, 1, import_gemm},
    {"GlobalAveragePool", 7, 0, 1, 1, 1, global_average_pool},
    {"GlobalLpPool", 7, 0, 1, 1, 1, global_lp_pool},
    {"GlobalMaxPool", 7, 0, 1, 1, 1, global_max_pool},
    {"GroupNormalization", 18, 0, 3, 3, 1, group_norm},
    {"Hardmax", 7, 0, 1, 1, 1, hardmax},
    {"InstanceNormalization", 7, 0, 3, 3, 1, instance_norm},
    {"LRN", 7, 0, 1, 1, 1, local_response_norm},
    {"LayerNormalization", 17, 0, 2, 3, 3, layer_norm},
    {"LogSoftmax", 7, 0, 1, 1, 1, log_softmax},
    {"LpNormalization", 7, 0, 1, 1, 1, lp_norm},
    {"LpPool", 7, 0, 1, 1, 1, import_lp_pool},
    {"MatMul", 7, 0, 2, 2, 1, import_matmul},
    {"MaxPool", 7, 0, 1, 1, 2, import_max_pool},
    {"MeanVarianceNormalization", 9, 0, 1, 1, 1, mean_variance_norm},
    {"RMSNormalization", 23, 0, 2, 2, 1, rms_norm},
    {"Softmax", 7, 0, 1, 1, 1, softmax},
};

}  // namespace

std::span<const Handler> nn_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
