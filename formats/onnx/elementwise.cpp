// ONNX ops that work element by element.
#include <limits>

#include "formats/onnx/known_ops.h"

namespace aoq::onnx {

namespace {

template <Op op>
Status unary(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.emit(op, {x}));
}

template <Op op>
Status binary(NodeContext& c) {
  AOQ_ASSIGN(Value * a, c.input(0));
  AOQ_ASSIGN(Value * b, c.input(1));
  return c.result(c.emit(op, {a, b}));
}

// A chain from the left, as ONNX orders it.
template <Op op>
Status variadic(NodeContext& c) {
  AOQ_ASSIGN(Value * sum, c.input(0));
  for (std::size_t i = 1; i < c.input_count(); ++i) {
    AOQ_ASSIGN(Value * next, c.input(i));
    AOQ_ASSIGN(sum, c.emit(op, {sum, next}));
  }
  return c.result(sum);
}

Status mean(NodeContext& c) {
  AOQ_TRY(variadic<Op::add>(c));
  Value* sum = c.results()[0].value;
  Value* count = c.scalar(sum->type().dtype, static_cast<double>(c.input_count()));
  return c.result(c.emit(Op::div, {sum, count}));
}

Status identity(NodeContext& c) {
  return c.result(c.binding(0));
}

template <Op op>
Status with_alpha(NodeContext& c, double otherwise) {
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.emit(op, {x}, {{"alpha", c.real("alpha", otherwise)}}));
}

Status celu(NodeContext& c) {
  return with_alpha<Op::celu>(c, 1.0);
}
Status elu(NodeContext& c) {
  return with_alpha<Op::elu>(c, 1.0);
}
Status leaky_relu(NodeContext& c) {
  return with_alpha<Op::leaky_relu>(c, static_cast<double>(0.01f));
}
Status thresholded_relu(NodeContext& c) {
  return with_alpha<Op::thresholded_relu>(c, 1.0);
}

Status selu(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  double alpha = c.real("alpha", static_cast<double>(1.67326319217681884765625f));
  double gamma = c.real("gamma", static_cast<double>(1.05070102214813232421875f));
  return c.result(c.emit(Op::selu, {x}, {{"alpha", alpha}, {"gamma", gamma}}));
}

Status hard_sigmoid(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  double alpha = c.real("alpha", static_cast<double>(0.2f));
  double beta = c.real("beta", 0.5);
  return c.result(c.emit(Op::hardsigmoid, {x}, {{"alpha", alpha}, {"beta", beta}}));
}

Status softplus(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.emit(Op::softplus, {x}));
}

Status gelu(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  std::string approximate = c.string("approximate", "none");
  return c.result(c.emit(Op::gelu, {x}, {{"approximate", approximate}}));
}

Status swish(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  double alpha = c.real("alpha", 1.0);
  if (alpha == 1.0) return c.result(c.emit(Op::silu, {x}));
  AOQ_ASSIGN(Value * scaled, c.emit(Op::mul, {x, c.scalar(x->type().dtype, alpha)}));
  AOQ_ASSIGN(Value * gate, c.emit(Op::sigmoid, {scaled}));
  return c.result(c.emit(Op::mul, {x, gate}));
}

Status shrink(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  double lambda = c.real("lambd", 0.5);
  double bias = c.real("bias", 0.0);
  auto number = [&](double v) { return c.scalar(x->type().dtype, v); };
  AOQ_ASSIGN(Value * is_low, c.emit(Op::less, {x, number(-lambda)}));
  AOQ_ASSIGN(Value * is_high, c.emit(Op::greater, {x, number(lambda)}));
  AOQ_ASSIGN(Value * low, c.emit(Op::add, {x, number(bias)}));
  AOQ_ASSIGN(Value * high, c.emit(Op::sub, {x, number(bias)}));
  AOQ_ASSIGN(Value * upper, c.emit(Op::where, {is_high, high, number(0)}));
  return c.result(c.emit(Op::where, {is_low, low, upper}));
}

Status is_inf(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  bool negative = c.integer("detect_negative", 1) != 0;
  bool positive = c.integer("detect_positive", 1) != 0;
  AOQ_ASSIGN(Value * infinite, c.emit(Op::is_inf, {x}));
  if (negative && positive) return c.result(infinite);
  Value* zero = c.scalar(x->type().dtype, 0.0);
  AOQ_ASSIGN(Value * sign, c.emit(positive ? Op::greater : Op::less, {x, zero}));
  if (!positive && !negative) {
    AOQ_ASSIGN(sign, c.emit(Op::is_nan, {zero}));
  }
  return c.result(c.emit(Op::logical_and, {infinite, sign}));
}

// A bound given as an attribute (opset < 11) or as an input.
Result<Value*> bound_by_op(NodeContext& c, Op op, Value* x, std::size_t operand) {
  if (!c.has(operand)) return x;
  AOQ_ASSIGN(Value * bound, c.input(operand));
  return c.emit(op, {x, bound});
}

Status clip(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  if (c.opset() < 11) {
    low = c.real("min", low);
    high = c.real("max", high);
  } else if ((c.has(1) && !c.constant(1)) || (c.has(2) && !c.constant(2))) {
    AOQ_ASSIGN(x, bound_by_op(c, Op::maximum, x, 1));
    return c.result(bound_by_op(c, Op::minimum, x, 2));
  } else {
    if (c.has(1)) {
      AOQ_ASSIGN(low, c.number_of(1, "min"));
    }
    if (c.has(2)) {
      AOQ_ASSIGN(high, c.number_of(2, "max"));
    }
  }
  if (low > high) low = high;  // ONNX: everything becomes max
  return c.result(c.emit(Op::clamp, {x}, {{"min", low}, {"max", high}}));
}

Status cast(NodeContext& c) {
  std::int64_t to = c.required_integer("to");
  c.ignore({"saturate", "round_mode"});
  std::optional<DType> dtype = dtype_from_onnx(to);
  if (!dtype) return c.unsupported("cast to {} is not supported", onnx_type_name(to));
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.cast(x, *dtype));
}

Status cast_like(NodeContext& c) {
  c.ignore({"saturate", "round_mode"});
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.cast(x, c.type(1).dtype));
}

// The exponent may have a type of its own; the result has the base's.
Status power(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * y, c.input(1));
  DType base = x->type().dtype;
  DType exponent = y->type().dtype;
  if (is_float(exponent) && !is_float(base)) {
    AOQ_ASSIGN(x, c.cast(x, exponent));
    AOQ_ASSIGN(Value * p, c.emit(Op::pow, {x, y}));
    return c.result(c.cast(p, base));
  }
  AOQ_ASSIGN(y, c.cast(y, base));
  return c.result(c.emit(Op::pow, {x, y}));
}

Status mod(NodeContext& c) {
  AOQ_ASSIGN(Value * a, c.input(0));
  AOQ_ASSIGN(Value * b, c.input(1));
  bool fmod = c.integer("fmod", 0) != 0;
  return c.result(c.emit(Op::mod, {a, b}, {{"fmod", fmod}}));
}

// Unidirectional: the slope must not make the result larger.
Status prelu(NodeContext& c) {
  return binary<Op::prelu>(c);
}

Status where(NodeContext& c) {
  AOQ_ASSIGN(Value * condition, c.input(0));
  AOQ_ASSIGN(Value * a, c.input(1));
  AOQ_ASSIGN(Value * b, c.input(2));
  return c.result(c.emit(Op::where, {condition, a, b}));
}

Status dropout(NodeContext& c) {
  c.ignore({"ratio", "seed", "is_test"});
  if (c.has(2)) {
    AOQ_ASSIGN(double training, c.number_of(2, "training_mode"));
    if (training != 0) return c.unsupported("training_mode is set; export the model for inference");
  }
  AOQ_TRY(c.result(c.binding(0)));
  if (!c.wants(1)) return {};
  DType dtype = c.opset() < 10 ? c.type(0).dtype : DType::boolean;
  return c.result(c.expand(c.scalar(dtype, 1), c.type(0).shape), 1);
}

const Handler kHandlers[] = {
    {"Abs", 7, 0, 1, 1, 1, unary<Op::abs>, known_abs},
    {"Acos", 7, 0, 1, 1, 1, unary<Op::acos>},
    {"Acosh", 9, 0, 1, 1, 1, unary<Op::acosh>},
    {"Add", 7, 0, 2, 2, 1, binary<Op::add>, known_add},
    {"And", 7, 0, 2, 2, 1, binary<Op::logical_and>, known_and},
    {"Asin", 7, 0, 1, 1, 1, unary<Op::asin>},
    {"Asinh", 9, 0, 1, 1, 1, unary<Op::asinh>},
    {"Atan", 7, 0, 1, 1, 1, unary<Op::atan>},
    {"Atanh", 9, 0, 1, 1, 1, unary<Op::atanh>},
    {"BitwiseAnd", 18, 0, 2, 2, 1, binary<Op::bitwise_and>},
    {"BitwiseNot", 18, 0, 1, 1, 1, unary<Op::bitwise_not>},
    {"BitwiseOr", 18, 0, 2, 2, 1, binary<Op::bitwise_or>},
    {"BitwiseXor", 18, 0, 2, 2, 1, binary<Op::bitwise_xor>},
    {"Cast", 7, 0, 1, 1, 1, cast, known_cast},
    {"CastLike", 15, 0, 2, 2, 1, cast_like},
    {"Ceil", 7, 0, 1, 1, 1, unary<Op::ceil>, known_same},
    {"Celu", 12, 0, 1, 1, 1, celu},
    {"Clip", 7, 0, 1, 3, 1, clip},
    {"Cos", 7, 0, 1, 1, 1, unary<Op::cos>},
    {"Cosh", 9, 0, 1, 1, 1, unary<Op::cosh>},
    {"Div", 7, 0, 2, 2, 1, binary<Op::div>, known_div},
    {"Dropout", 7, 0, 1, 3, 2, dropout},
    {"Elu", 7, 0, 1, 1, 1, elu},
    {"Equal", 7, 0, 2, 2, 1, binary<Op::equal>, known_equal},
    {"Erf", 9, 0, 1, 1, 1, unary<Op::erf>},
    {"Exp", 7, 0, 1, 1, 1, unary<Op::exp>},
    {"Floor", 7, 0, 1, 1, 1, unary<Op::floor>, known_same},
    {"Gelu", 20, 0, 1, 1, 1, gelu},
    {"Greater", 7, 0, 2, 2, 1, binary<Op::greater>, known_greater},
    {"GreaterOrEqual", 12, 0, 2, 2, 1, binary<Op::greater_equal>, known_greater_equal},
    {"HardSigmoid", 7, 0, 1, 1, 1, hard_sigmoid},
    {"HardSwish", 14, 0, 1, 1, 1, unary<Op::hardswish>},
    {"Identity", 7, 0, 1, 1, 1, identity},
    {"IsInf", 10, 0, 1, 1, 1, is_inf},
    {"IsNaN", 9, 0, 1, 1, 1, unary<Op::is_nan>},
    {"LeakyRelu", 7, 0, 1, 1, 1, leaky_relu},
    {"Less", 7, 0, 2, 2, 1, binary<Op::less>, known_less},
    {"LessOrEqual", 12, 0, 2, 2, 1, binary<Op::less_equal>, known_less_equal},
    {"Log", 7, 0, 1, 1, 1, unary<Op::log>},
    {"Max", 7, 0, 1, kAnyNumber, 1, variadic<Op::maximum>, known_max},
    {"Mean", 7, 0, 1, kAnyNumber, 1, mean},
    {"Min", 7, 0, 1, kAnyNumber, 1, variadic<Op::minimum>, known_min},
    {"Mish", 18, 0, 1, 1, 1, unary<Op::mish>},
    {"Mod", 10, 0, 2, 2, 1, mod, known_mod},
    {"Mul", 7, 0, 2, 2, 1, binary<Op::mul>, known_mul},
    {"Neg", 7, 0, 1, 1, 1, unary<Op::neg>, known_neg},
    {"Not", 7, 0, 1, 1, 1, unary<Op::logical_not>, known_not},
    {"Or", 7, 0, 2, 2, 1, binary<Op::logical_or>, known_or},
    {"PRelu", 7, 0, 2, 2, 1, prelu},
    {"Pow", 7, 0, 2, 2, 1, power},
    {"Reciprocal", 7, 0, 1, 1, 1, unary<Op::reciprocal>},
    {"Relu", 7, 0, 1, 1, 1, unary<Op::relu>},
    {"Round", 11, 0, 1, 1, 1, unary<Op::round>, known_same},
    {"Selu", 7, 0, 1, 1, 1, selu},
    {"Shrink", 9, 0, 1, 1, 1, shrink},
    {"Sigmoid", 7, 0, 1, 1, 1, unary<Op::sigmoid>},
    {"Sign", 9, 0, 1, 1, 1, unary<Op::sign>},
    {"Sin", 7, 0, 1, 1, 1, unary<Op::sin>},
    {"Sinh", 9, 0, 1, 1, 1, unary<Op::sinh>},
    {"Softplus", 7, 0, 1, 1, 1, softplus},
    {"Softsign", 7, 0, 1, 1, 1, unary<Op::softsign>},
    {"Sqrt", 7, 0, 1, 1, 1, unary<Op::sqrt>},
    {"Sub", 7, 0, 2, 2, 1, binary<Op::sub>, known_sub},
    {"Sum", 7, 0, 1, kAnyNumber, 1, variadic<Op::add>},
    {"Swish", 24, 0, 1, 1, 1, swish},
    {"Tan", 7, 0, 1, 1, 1, unary<Op::tan>},
    {"Tanh", 7, 0, 1, 1, 1, unary<Op::tanh>},
    {"ThresholdedRelu", 10, 0, 1, 1, 1, thresholded_relu},
    {"Where", 9, 0, 3, 3, 1, where, known_where, 0b110},
    {"Xor", 7, 0, 2, 2, 1, binary<Op::logical_xor>},
};

}  // namespace

std::span<const Handler> elementwise_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
