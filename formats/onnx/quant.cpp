// Models that are quantized already: QuantizeLinear, DequantizeLinear, and the ops on codes, which become
// dequantize, the float op, quantize.
#include "formats/onnx/window.h"

namespace aoq::onnx {

namespace {

// How ONNX operands describe a quantization.
struct Qparams {
  std::size_t scale, zero_point;  // operand positions
  std::int64_t axis = 1;
  std::int64_t block = 0;
};

struct Operands {
  Attributes attributes;
  Value* scale = nullptr;
  Value* zero_point = nullptr;
};

Result<Operands> per_tensor_operands(NodeContext& c, const Qparams& q) {
  Operands out;
  const Tensor* scale = c.constant(q.scale);
  const Tensor* zero_point = c.constant(q.zero_point);
  if (scale != nullptr && (zero_point != nullptr || !c.has(q.zero_point))) {
    double s = load_as_double(scale->dtype(), scale->bytes().data(), 0);
    std::int64_t z = 0;
    if (zero_point != nullptr) {
      if (zero_point->element_count() != 1)
        return error(Code::invalid_model, "zero point is not a scalar, the scale is");
      z = is_float(zero_point->dtype()) ? 0 : load_integer(zero_point->dtype(), zero_point->bytes().data(), 0);
    }
    out.attributes = {{"scale", s}, {"zero_point", z}};
    return out;
  }
  AOQ_ASSIGN(out.scale, c.input(q.scale));
  AOQ_ASSIGN(out.scale, c.reshape(out.scale, {}));
  AOQ_ASSIGN(out.scale, c.cast(out.scale, DType::f32));
  AOQ_ASSIGN(out.zero_point, c.optional_input(q.zero_point));
  if (out.zero_point) {
    AOQ_ASSIGN(out.zero_point, c.reshape(out.zero_point, {}));
    AOQ_ASSIGN(out.zero_point, c.cast(out.zero_point, DType::i32));
  }
  return out;
}

Result<Operands> operands_of(NodeContext& c, const Qparams& q, const Type& x) {
  Type scale = c.type(q.scale);
  if (product(scale.shape) == Dim(1) && q.block == 0) return per_tensor_operands(c, q);
  Operands out;
  AOQ_ASSIGN(std::int64_t axis, normalized(q.axis, x.rank()));
  bool is_group = q.block > 0;
  if (!is_group && scale.rank() != 1) {
    return error(Code::invalid_model, "scale has shape {}, expected one dimension", to_string(scale.shape));
  }
  out.attributes = {{"granularity", std::string(is_group ? "group" : "axis")}, {"axis", axis}};
  if (is_group) out.attributes.set("group", q.block);
  AOQ_ASSIGN(out.scale, c.input(q.scale));
  AOQ_ASSIGN(out.scale, c.cast(out.scale, DType::f32));
  AOQ_ASSIGN(out.zero_point, c.optional_input(q.zero_point));
  if (out.zero_point) {
    AOQ_ASSIGN(out.zero_point, c.cast(out.zero_point, DType::i32));
  }
  return out;
}

Result<Value*> emit_quantize(NodeContext& c, Value* x, const Qparams& q, DType dtype) {
  AOQ_ASSIGN(x, c.cast(x, DType::f32));
  AOQ_ASSIGN(Operands o, operands_of(c, q, x->type()));
  o.attributes.set("dtype", dtype);
  return c.emit(Op::quantize, {x, o.scale, o.zero_point}, std::move(o.attributes));
}

Result<Value*> emit_dequantize(NodeContext& c, Value* x, const Qparams& q) {
  AOQ_ASSIGN(Operands o, operands_of(c, q, x->type()));
  if (x->type().quantization && x->type().quantization->is_immediate) {
    const Quantization& given = *x->type().quantization;
    bool is_same = o.scale == nullptr && static_cast<float>(o.attributes.real("scale")) == given.scale &&
                   o.attributes.integer("zero_point") == given.zero_point;
    if (!is_same)
      return error(Code::unsupported, "dequantizes with another scale or zero point than the input was quantized with");
    return c.emit(Op::dequantize, {x});
  }
  return c.emit(Op::dequantize, {x, o.scale, o.zero_point}, std::move(o.attributes));
}

Status quantize_linear(NodeContext& c) {
  c.only("saturate", 1);
  c.ignore({"precision"});
  Qparams q{1, 2, c.integer("axis", 1), c.integer("block_size", 0)};
  std::optional<DType> dtype = DType::u8;
  if (c.has(2)) dtype = c.type(2).dtype;
  if (std::int64_t wanted = c.integer("output_dtype", 0); wanted != 0) dtype = dtype_from_onnx(wanted);
  if (!dtype) return c.unsupported("output_dtype is not supported");
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(emit_quantize(c, x, q, *dtype));
}

Status dequantize_linear(NodeContext& c) {
  Qparams q{1, 2, c.integer("axis", 1), c.integer("block_size", 0)};
  DType dtype = c.type(1).dtype;
  if (std::int64_t wanted = c.integer("output_dtype", 0); wanted != 0) dtype = dtype_from_onnx(wanted).value_or(dtype);
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * y, emit_dequantize(c, x, q));
  return c.result(c.cast(y, dtype));
}

// Codes of an int32 bias stand for code * x_scale * w_scale.
Result<Value*> dequantized_bias(NodeContext& c, std::size_t bias, std::size_t x_scale, std::size_t w_scale) {
  if (!c.has(bias)) return static_cast<Value*>(nullptr);
  AOQ_ASSIGN(Value * b, c.input(bias));
  AOQ_ASSIGN(b, c.cast(b, DType::f32));
  AOQ_ASSIGN(Value * sx, c.input(x_scale));
  AOQ_ASSIGN(Value * sw, c.input(w_scale));
  AOQ_ASSIGN(Value * scale, c.emit(Op::mul, {sx, sw}));
  return c.emit(Op::mul, {b, scale});
}

Result<Attributes> conv_attributes(NodeContext& c, const Type& x, const Type& weight) {
  std::vector<std::int64_t> kernel;
  for (std::size_t i = 2; i < weight.shape.size(); ++i) {
    kernel.push_back(weight.shape[i].is_constant() ? weight.shape[i].constant() : -1);
  }
  c.ignore({"kernel_shape"});
  AOQ_ASSIGN(WindowAttributes w, read_window(c, x, std::move(kernel)));
  return Attributes{
      {"stride", w.stride}, {"dilation", w.dilation}, {"pads", w.pads}, {"groups", c.integer("group", 1)}};
}

Status qlinear_conv(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * w, c.input(3));
  AOQ_ASSIGN(Attributes attributes, conv_attributes(c, x->type(), w->type()));
  AOQ_ASSIGN(x, emit_dequantize(c, x, {1, 2}));
  AOQ_ASSIGN(w, emit_dequantize(c, w, {4, 5, 0}));
  AOQ_ASSIGN(Value * bias, dequantized_bias(c, 8, 1, 4));
  AOQ_ASSIGN(Value * y, c.emit(Op::conv, {x, w, bias}, std::move(attributes)));
  return c.result(emit_quantize(c, y, {6, 7}, c.type(7).dtype));
}

Status qlinear_matmul(NodeContext& c) {
  AOQ_ASSIGN(Value * a, c.input(0));
  AOQ_ASSIGN(Value * b, c.input(3));
  AOQ_ASSIGN(a, emit_dequantize(c, a, {1, 2, -2}));
  AOQ_ASSIGN(b, emit_dequantize(c, b, {4, 5, -1}));
  AOQ_ASSIGN(Value * y, emit_matmul(c, a, b, nullptr));
  return c.result(emit_quantize(c, y, {6, 7}, c.type(7).dtype));
}

// scale = (max(x, 0) - min(x, 0)) / 255; zero point = saturate(round(-min / scale)).
Status dynamic_quantize(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  Attributes over{{"keepdims", false}};
  AOQ_ASSIGN(Value * low, c.emit(Op::reduce_min, {x}, over));
  AOQ_ASSIGN(Value * high, c.emit(Op::reduce_max, {x}, over));
  Value* zero = c.scalar(DType::f32, 0);
  AOQ_ASSIGN(low, c.emit(Op::minimum, {low, zero}));
  AOQ_ASSIGN(high, c.emit(Op::maximum, {high, zero}));
  AOQ_ASSIGN(Value * range, c.emit(Op::sub, {high, low}));
  AOQ_ASSIGN(Value * scale, c.emit(Op::div, {range, c.scalar(DType::f32, 255)}));
  AOQ_ASSIGN(Value * steps, c.emit(Op::div, {low, scale}));
  AOQ_ASSIGN(Value * shift, c.emit(Op::sub, {zero, steps}));
  AOQ_ASSIGN(shift, c.emit(Op::round, {shift}));
  AOQ_ASSIGN(shift, c.emit(Op::clamp, {shift}, {{"min", 0.0}, {"max", 255.0}}));
  AOQ_ASSIGN(Value * zero_point, c.cast(shift, DType::i32));
  AOQ_TRY(c.result(c.emit(Op::quantize, {x, scale, zero_point}, {{"dtype", DType::u8}}), 0));
  AOQ_TRY(c.result(scale, 1));
  return c.result(c.cast(zero_point, DType::u8), 2);
}

// Codes minus their zero point, in float: whole numbers below 2^9.
Result<Value*> shifted(NodeContext& c, std::size_t codes, std::size_t zero_point, bool is_per_row) {
  AOQ_ASSIGN(Value * x, c.input(codes));
  AOQ_ASSIGN(x, c.cast(x, DType::f32));
  AOQ_ASSIGN(Value * z, c.optional_input(zero_point));
  if (z == nullptr) return x;
  AOQ_ASSIGN(z, c.cast(z, DType::f32));
  if (is_per_row && z->type().rank() == 1) {
    AOQ_ASSIGN(z, c.reshape(z, {z->type().shape[0], Dim(1)}));
  }
  return c.emit(Op::sub, {x, z});
}

// Sums of up to 128 products of nine-bit numbers are exact in float.
constexpr std::int64_t kMostExact = 128;

Status check_exact(NodeContext& c, const Dim& terms) {
  if (terms.is_constant() && terms.constant() <= kMostExact) return {};
  return c.unsupported(
      "sums of {} products are not supported, at most {}; use QLinearMatMul, QLinearConv or "
      "QuantizeLinear and DequantizeLinear",
      terms.to_string(), kMostExact);
}

Status matmul_integer(NodeContext& c) {
  AOQ_ASSIGN(Value * a, shifted(c, 0, 2, true));
  AOQ_ASSIGN(Value * b, shifted(c, 1, 3, false));
  if (a->type().rank() < 1) return c.invalid("the first operand is a scalar");
  AOQ_TRY(check_exact(c, a->type().shape.back()));
  AOQ_ASSIGN(Value * y, emit_matmul(c, a, b, nullptr));
  return c.result(c.cast(y, DType::i32));
}

Status conv_integer(NodeContext& c) {
  if (c.has(3) && c.type(3).rank() > 0 && product(c.type(3).shape) != Dim(1)) {
    return c.unsupported("one weight zero point per channel is not supported");
  }
  AOQ_ASSIGN(Value * x, shifted(c, 0, 2, false));
  AOQ_ASSIGN(Value * w, shifted(c, 1, 3, false));
  AOQ_ASSIGN(Attributes attributes, conv_attributes(c, x->type(), w->type()));
  std::span<const Dim> shape(w->type().shape);
  AOQ_TRY(check_exact(c, product(shape.subspan(std::min<std::size_t>(1, shape.size())))));
  AOQ_ASSIGN(Value * y, c.emit(Op::conv, {x, w}, std::move(attributes)));
  return c.result(c.cast(y, DType::i32));
}

const Handler kHandlers[] = {
    {"ConvInteger", 10, 0, 2, 4, 1, conv_integer},
    {"DequantizeLinear", 10, 0, 2, 3, 1, dequantize_linear},
    {"DynamicQuantizeLinear", 11, 0, 1, 1, 3, dynamic_quantize},
    {"MatMulInteger", 10, 0, 2, 4, 1, matmul_integer},
    {"QLinearConv", 10, 0, 8, 9, 1, qlinear_conv},
    {"QLinearMatMul", 10, 0, 8, 8, 1, qlinear_matmul},
    {"QuantizeLinear", 10, 0, 2, 3, 1, quantize_linear},
};

}  // namespace

std::span<const Handler> quant_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
