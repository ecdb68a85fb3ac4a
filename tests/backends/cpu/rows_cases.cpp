#include "tests/backends/cpu/rows_cases.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace aoq::cpu::test {

void Case::input(Tensor tensor) {
  Type type{tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, std::nullopt};
  values.push_back(graph.input("x" + std::to_string(values.size()), std::move(type)));
  data.push_back(std::move(tensor));
}

void Case::constant(Tensor tensor) {
  values.push_back(graph.constant(tensor));
  data.push_back(std::move(tensor));
}

void Case::absent() {
  values.push_back(nullptr);
  data.emplace_back();
}

namespace {

float special_float(Draw& draw) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return draw.one_of({0.0f, -0.0f, 1.0f, -1.0f, 0.5f, -0.5f, 2.5f, 1e-40f, -1e-42f, 3e38f, -3e38f, kInfinity,
                      -kInfinity, std::numeric_limits<float>::quiet_NaN(), std::bit_cast<float>(0x7fffffffu), 100.0f,
                      -100.0f});
}

float random_float(Draw& draw, Values values) {
  if (values == Values::special && draw.chance(10)) return special_float(draw);
  if (values == Values::positive) return draw.real(0.01f, 2.0f);
  return draw.real(-3.0f, 3.0f);
}

}  // namespace

Tensor random_tensor(Draw& draw, DType dtype, Shape shape, Values values) {
  Tensor tensor = Tensor::make(dtype, std::move(shape)).value();
  std::byte* data = tensor.mutable_bytes().data();
  bool extreme = draw.chance(20);
  for (std::int64_t i = 0; i < tensor.element_count(); ++i) {
    if (is_float(dtype)) {
      store_from_double(dtype, data, i, static_cast<double>(random_float(draw, values)));
    } else if (dtype == DType::boolean) {
      store_integer(dtype, data, i, draw.between(0, 1));
    } else if (dtype_info(dtype).bits <= 8) {
      auto lo = static_cast<std::int64_t>(dtype_info(dtype).min);
      auto hi = static_cast<std::int64_t>(dtype_info(dtype).max);
      store_integer(dtype, data, i, extreme ? draw.one_of({lo, hi}) : draw.between(lo, hi));
    } else {
      store_integer(dtype, data, i, draw.chance(5) ? draw.between(-2000000000, 2000000000) : draw.between(-9, 9));
    }
  }
  return tensor;
}

Shape random_shape(Draw& draw, std::size_t min_rank, std::size_t max_rank) {
  auto rank =
      static_cast<std::size_t>(draw.between(static_cast<std::int64_t>(min_rank), static_cast<std::int64_t>(max_rank)));
  Shape shape(rank);
  for (std::int64_t& d : shape) d = draw.chance(15) ? 1 : draw.between(1, rank > 3 ? 5 : 9);
  if (rank > 0 && draw.chance(40)) shape.back() = draw.one_of<std::int64_t>({15, 16, 17, 31, 33, 64, 100});
  if (rank > 0 && draw.large) {
    std::int64_t n = 1;
    for (std::int64_t d : shape) n *= d;
    shape[static_cast<std::size_t>(draw.between(0, static_cast<std::int64_t>(rank) - 1))] *= 200000 / n + 1;
  }
  return shape;
}

namespace {

DType byte_type(Draw& draw) {
  return draw.one_of({DType::u8, DType::i8});
}
std::int64_t zero_point(Draw& draw, DType type) {
  std::int64_t lo = type == DType::i8 ? -128 : 0;
  return draw.chance(20) ? draw.one_of({lo, lo + 255}) : draw.between(lo, lo + 255);
}
double scale(Draw& draw) {
  return static_cast<double>(draw.real(0.001f, 0.1f));
}
void set_qparams(Draw& draw, Case* c, const std::string& prefix, DType type) {
  c->attributes.set(prefix + "_scale", scale(draw));
  c->attributes.set(prefix + "_zero_point", zero_point(draw, type));
}
DType set_output(Draw& draw, Case* c, bool may_be_float) {
  DType type = may_be_float && draw.chance(30) ? DType::f32 : byte_type(draw);
  c->attributes.set("out_dtype", type);
  if (type != DType::f32) set_qparams(draw, c, "out", type);
  return type;
}
void set_activation(Draw& draw, Case* c) {
  std::string name = draw.one_of<const char*>({"none", "none", "relu", "clamp", "hardswish", "hardsigmoid", "gelu",
                                               "gelu_tanh", "silu", "sigmoid", "tanh", "leaky_relu"});
  c->attributes.set("activation", name);
  c->attributes.set("activation_min", static_cast<double>(name == "hardsigmoid" ? 0.2f : draw.real(-1.0f, 0.5f)));
  c->attributes.set("activation_max", static_cast<double>(draw.real(0.5f, 6.0f)));
}

// ---- convolution and linear

struct Window {
  Shape kernel, stride, dilation, pads, in;
};

Window random_window(Draw& draw, std::size_t spatial) {
  Window w;
  for (std::size_t d = 0; d < spatial; ++d) {
    std::int64_t kernel = draw.one_of<std::int64_t>({1, 1, 2, 3, 3, 5});
    std::int64_t dilation = draw.chance(80) ? 1 : 2;
    std::int64_t reach = dilation * (kernel - 1) + 1;
    std::int64_t begin = draw.between(0, kernel / 2), end = draw.between(0, kernel / 2);
    std::int64_t least = std::max<std::int64_t>(reach - begin - end, 1);
    std::int64_t in = draw.between(least, least + (draw.large ? 24 : 8));
    std::int64_t stride = draw.one_of<std::int64_t>({1, 1, 2, 3});
    w.kernel.push_back(kernel);
    w.stride.push_back(stride);
    w.dilation.push_back(dilation);
    w.pads.insert(w.pads.begin() + static_cast<std::ptrdiff_t>(d), begin);
    w.pads.push_back(end);
    w.in.push_back(in);
  }
  return w;
}

Shape image_shape(Draw& draw, const Window& w, std::int64_t channels) {
  Shape shape{draw.between(1, 2)};
  shape.insert(shape.end(), w.in.begin(), w.in.end());
  shape.push_back(channels);
  return shape;
}

struct ConvShapes {
  Shape x, weight;
};

// Square and without dilation, as models have it.
Window square_window(Draw& draw) {
  const std::int64_t kernel = draw.one_of<std::int64_t>({3, 5}), stride = draw.between(1, 2), pad = kernel / 2;
  const std::int64_t size = draw.between(1, draw.large ? 24 : 9);
  return {{kernel, kernel}, {stride, stride}, {1, 1}, Shape(4, pad), {size, size}};
}

// As large as the rows ask for that change the form of a convolution.
Window wide_window(Draw& draw) {
  return {{3, 3}, {1, 1}, {1, 1}, Shape(4, 1), {draw.between(14, 17), draw.between(14, 17)}};
}

ConvShapes random_conv(Draw& draw, Case* c) {
  std::size_t spatial = draw.chance(25) ? 1 : 2;
  Window w = draw.chance(30) ? square_window(draw) : random_window(draw, spatial);
  std::int64_t groups = 1, in = 0, out = 0;
  int kind = static_cast<int>(draw.between(0, 9));
  if (draw.chance(10)) {
    w = wide_window(draw);
    in = draw.one_of<std::int64_t>({32, 48});
    out = draw.one_of<std::int64_t>({32, 40});
  } else if (kind < 4) {
    groups = in = out = draw.one_of<std::int64_t>({2, 7, 8, 16, 17, 24, 40, 64, 100});  // depthwise
  } else if (kind < 6) {
    groups = draw.one_of<std::int64_t>({2, 3, 4});
    in = groups * draw.between(1, 9);
    out = groups * draw.between(1, 20);
  } else {
    in = draw.one_of<std::int64_t>({1, 2, 3, 4, 8, 16, 19, 32});
    out = draw.one_of<std::int64_t>({1, 5, 8, 15, 16, 17, 32, 48});
  }
  c->attributes.set("groups", groups);
  c->attributes.set("channels_last", true);
  c->attributes.set("stride", w.stride);
  c->attributes.set("dilation", w.dilation);
  c->attributes.set("pads", w.pads);
  Shape weight{out, in / groups};
  weight.insert(weight.end(), w.kernel.begin(), w.kernel.end());
  return {image_shape(draw, w, in), weight};
}

ConvShapes random_linear(Draw& draw, Case*) {
  Shape x = random_shape(draw, 1, 3);
  if (draw.large) x = {draw.between(100, 200), draw.between(30, 70)};
  std::int64_t n = draw.one_of<std::int64_t>({1, 7, 16, 17, 33, 64});
  return {x, {n, x.back()}};
}

// The shape of the result, which the residual has: by inference without a residual.
Shape result_shape(Op op, const Case& c) {
  std::vector<Type> types;
  std::vector<const Type*> pointers;
  for (Value* v : c.values) types.push_back(v == nullptr ? Type{} : v->type());
  for (std::size_t i = 0; i < types.size(); ++i) pointers.push_back(c.values[i] == nullptr ? nullptr : &types[i]);
  Attributes attributes = c.attributes;
  AOQ_CHECK(complete_attributes(op_def(op), attributes).ok());
  Result<std::vector<Type>> result = op_def(op).infer({op, pointers, attributes});
  if (!result.ok()) std::fprintf(stderr, "%s: %s\n", op_name(op), result.status().message().c_str());
  AOQ_CHECK(result.ok());
  Shape shape;
  for (const Dim& d : (*result)[0].shape) shape.push_back(d.constant());
  return shape;
}

void float_dot(Draw& draw, Op op, Case* c, ConvShapes shapes) {
  if (op == Op::conv && draw.chance(25)) {  // channels first
    std::rotate(shapes.x.begin() + 1, shapes.x.end() - 1, shapes.x.end());
    c->attributes.set("channels_last", false);
  }
  c->input(random_tensor(draw, DType::f32, shapes.x));
  c->constant(random_tensor(draw, DType::f32, shapes.weight));
  if (draw.chance(60)) {
    c->constant(random_tensor(draw, DType::f32, {shapes.weight[0]}));
  } else {
    c->absent();
  }
  if (draw.chance(30)) c->input(random_tensor(draw, DType::f32, result_shape(op, *c)));
  set_activation(draw, c);
}

void conv_transpose_case(Draw& draw, Case* c) {
  std::size_t spatial = draw.chance(25) ? 1 : 2;
  Window w = random_window(draw, spatial);
  std::int64_t groups = draw.one_of<std::int64_t>({1, 1, 2});
  std::int64_t in = groups * draw.one_of<std::int64_t>({1, 3, 8, 16});
  std::int64_t out = draw.one_of<std::int64_t>({1, 5, 8, 16});
  for (std::size_t d = 0; d < spatial; ++d) w.in[d] += 2;  // so that the padding leaves something
  c->attributes.set("groups", groups);
  c->attributes.set("channels_last", true);
  c->attributes.set("stride", w.stride);
  c->attributes.set("dilation", w.dilation);
  c->attributes.set("pads", w.pads);
  Shape weight{in, out};
  weight.insert(weight.end(), w.kernel.begin(), w.kernel.end());
  c->input(random_tensor(draw, DType::f32, image_shape(draw, w, in)));
  c->constant(random_tensor(draw, DType::f32, weight));
  if (draw.chance(60)) c->constant(random_tensor(draw, DType::f32, {out * groups}));
}

void quantized_dot(Draw& draw, Op op, Case* c, const ConvShapes& shapes) {
  DType type = byte_type(draw);
  c->input(random_tensor(draw, type, shapes.x));
  c->constant(random_tensor(draw, DType::i8, shapes.weight));
  std::int64_t channels = shapes.weight[0];
  Tensor scales = random_tensor(draw, DType::f32, {draw.chance(20) ? 1 : channels}, Values::positive);
  for (float& v : scales.mutable_as<float>()) v = v * 0.01f;
  c->constant(std::move(scales));
  if (draw.chance(60)) {
    c->constant(random_tensor(draw, DType::f32, {channels}));
  } else {
    c->absent();
  }
  bool residual = draw.chance(30);
  c->absent();
  bool operand = draw.chance(25);
  if (operand) {
    Tensor x_scale = random_tensor(draw, DType::f32, {}, Values::positive);
    x_scale.mutable_as<float>()[0] *= 0.05f;
    c->input(std::move(x_scale));
    if (draw.chance(50)) {
      Tensor z = Tensor::make(DType::i32, {}).value();
      store_integer(DType::i32, z.mutable_bytes().data(), 0, zero_point(draw, type));
      c->input(std::move(z));
    }
  } else {
    set_qparams(draw, c, "x", type);
  }
  // What most layers of models end in, which some rows take alone.
  const bool plain = draw.chance(40);
  residual = residual && !plain;
  DType out = set_output(draw, c, !plain);
  // Sums of full-range products are large: an output scale that does not saturate everything.
  if (out != DType::f32 && draw.chance(80)) c->attributes.set("out_scale", static_cast<double>(draw.real(0.5f, 20.0f)));
  set_activation(draw, c);
  if (plain) c->attributes.set("activation", std::string(draw.chance(50) ? "none" : "relu"));
  if (residual) {
    DType r = out == DType::f32 ? DType::f32 : byte_type(draw);
    Tensor tensor = random_tensor(draw, r, result_shape(op, *c));
    Type value_type{r, {tensor.shape().begin(), tensor.shape().end()}, std::nullopt};
    c->values[4] = c->graph.input("residual", std::move(value_type));
    c->data[4] = std::move(tensor);
    if (r != DType::f32) set_qparams(draw, c, "residual", r);
  }
}

Tensor positive_scales(Draw& draw, const Shape& shape) {
  Tensor t = random_tensor(draw, DType::f32, shape);
  for (float& v : t.mutable_as<float>()) v = 0.001f + std::fabs(v) * 0.01f;
  return t;
}

void matmul_case(Draw& draw, Op op, Case* c) {
  std::int64_t m = draw.between(1, draw.large ? 90 : 20);
  std::int64_t k = draw.chance(5) ? 0 : draw.between(1, draw.large ? 90 : 40);
  std::int64_t n = draw.one_of<std::int64_t>({1, 5, 16, 17, 33, 64});
  Shape a{m, k}, b{k, n};
  std::size_t batch = static_cast<std::size_t>(draw.between(0, 3));
  for (std::size_t i = 0; i < batch; ++i) {
    std::int64_t size = draw.between(1, 3);
    a.insert(a.begin(), draw.chance(25) ? 1 : size);
    b.insert(b.begin(), draw.chance(25) ? 1 : size);
  }
  if (draw.chance(30)) b = {k, n};
  if (draw.chance(10)) a = {k};
  if (draw.chance(10)) b = {k};
  const bool is_codes = op == Op::qmatmul;
  const DType a_type = is_codes ? byte_type(draw) : DType::f32, b_type = is_codes ? byte_type(draw) : DType::f32;
  c->input(random_tensor(draw, a_type, a));
  c->input(random_tensor(draw, b_type, b));
  if (!is_codes) return;
  set_qparams(draw, c, "a", a_type);
  set_qparams(draw, c, "b", b_type);
  if (draw.chance(25)) {
    c->attributes.set("out_dtype", DType::i32);
  } else {
    set_output(draw, c, true);
  }
}

// Any lengths around the edges of tiles and panels, with and without a mask that broadcasts.
void attention_case(Draw& draw, Case* c) {
  const std::int64_t batch = draw.between(1, 2), heads = draw.between(1, 3);
  const std::int64_t rows = draw.between(draw.chance(5) ? 0 : 1, draw.large ? 130 : 20);
  const std::int64_t columns = draw.one_of<std::int64_t>({0, 1, 2, 7, 15, 16, 17, 33, 64, 70, draw.between(1, 130)});
  const std::int64_t depth = draw.one_of<std::int64_t>({0, 1, 3, 4, 8, 16, 17, 32, 64, 80});
  const std::int64_t width = draw.one_of<std::int64_t>({0, 1, 5, 16, 17, 32, 48, 64, 80});
  const Values values = draw.chance(20) ? Values::special : Values::plain;
  c->input(random_tensor(draw, DType::f32, {batch, rows, heads, depth}, values));
  c->input(random_tensor(draw, DType::f32, {batch, columns, heads, depth}, values));
  c->input(random_tensor(draw, DType::f32, {batch, columns, heads, width}, values));
  if (draw.chance(60)) {
    Shape mask{batch, heads, rows, columns};
    for (std::int64_t& d : mask) d = draw.chance(40) ? 1 : d;
    mask.erase(mask.begin(), mask.begin() + draw.between(0, 4));
    c->input(random_tensor(draw, DType::f32, mask, draw.chance(30) ? Values::special : Values::plain));
  } else {
    c->absent();
  }
  if (draw.chance(40)) c->attributes.set("scale", static_cast<double>(draw.real(-1.0f, 1.0f)));
  if (draw.chance(40)) c->attributes.set("divisor", draw.chance(40) ? 8.0 : static_cast<double>(draw.real(0.5f, 6.0f)));
  c->attributes.set("arithmetic", std::string(draw.one_of<const char*>({"f32", "int8"})));
  set_output(draw, c, true);
}

// ---- pooling and resampling

void pool_case(Draw& draw, Op op, Case* c) {
  std::size_t spatial = draw.chance(20) ? 1 : 2;
  Window w = random_window(draw, spatial);
  if (draw.chance(20)) {
    w.kernel = w.in;  // global
    w.stride.assign(spatial, 1);
    w.dilation.assign(spatial, 1);
    w.pads.assign(2 * spatial, 0);
  }
  std::int64_t channels = draw.one_of<std::int64_t>({1, 7, 16, 17, 40, 64});
  DType type = op == Op::avg_pool ? DType::f32 : byte_type(draw);
  if (op == Op::max_pool && draw.chance(50)) type = DType::f32;
  c->input(random_tensor(draw, type, image_shape(draw, w, channels)));
  c->attributes.set("channels_last", true);
  c->attributes.set("kernel", w.kernel);
  c->attributes.set("stride", w.stride);
  c->attributes.set("dilation", w.dilation);
  c->attributes.set("pads", w.pads);
  c->attributes.set("ceil_mode", draw.chance(30));
  if (op != Op::max_pool) c->attributes.set("count_include_pad", draw.chance(50));
  if (op == Op::qavg_pool) {
    set_qparams(draw, c, "x", type);
    DType out = draw.chance(80) ? type : byte_type(draw);
    c->attributes.set("out_dtype", out);
    set_qparams(draw, c, "out", out);
  }
}

void resize_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 2, 4);
  bool nearest = draw.chance(50);
  std::vector<Dim> sizes;
  for (std::int64_t d : x) sizes.emplace_back(draw.chance(50) ? d : draw.between(1, 2 * std::min<std::int64_t>(d, 40)));
  c->input(random_tensor(draw, nearest ? draw.one_of({DType::f32, DType::u8, DType::f16}) : DType::f32, x));
  c->attributes.set("sizes", std::move(sizes));
  c->attributes.set("mode", std::string(nearest ? "nearest" : draw.chance(80) ? "linear" : "cubic"));
  c->attributes.set("coordinates", std::string(draw.one_of<const char*>({"half_pixel", "asymmetric", "align_corners",
                                                                         "pytorch_half_pixel", "half_pixel_symmetric",
                                                                         "tf_half_pixel_for_nn"})));
  c->attributes.set(
      "nearest", std::string(draw.one_of<const char*>({"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})));
}

// ---- rows along an axis

std::int64_t axis_of(Draw& draw, const Shape& shape) {
  auto rank = static_cast<std::int64_t>(shape.size());
  return draw.between(-rank, rank - 1);
}

void along_axis_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  c->attributes.set("axis", draw.chance(50) ? std::int64_t{-1} : axis_of(draw, x));
  c->input(random_tensor(draw, DType::f32, x, draw.chance(20) ? Values::special : Values::plain));
}

void row_norm_case(Draw& draw, Op op, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  std::int64_t axis = axis_of(draw, x);
  c->attributes.set("axis", axis);
  Shape row(x.end() - (axis < 0 ? -axis : static_cast<std::int64_t>(x.size()) - axis), x.end());
  c->input(random_tensor(draw, DType::f32, x));
  if (op == Op::qlayer_norm) {
    c->attributes.set("out_dtype", byte_type(draw));
    set_qparams(draw, c, "out", c->attributes.dtype("out_dtype"));
  }
  for (int i = 0; i < (op == Op::rms_norm ? 1 : 2); ++i) {
    if (draw.chance(70)) {
      c->constant(random_tensor(draw, DType::f32, row));
    } else {
      c->absent();
    }
  }
}

void batch_norm_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 2, 4);
  bool last = draw.chance(60);
  c->attributes.set("channels_last", last);
  Shape channels{last ? x.back() : x[1]};
  c->input(random_tensor(draw, DType::f32, x));
  for (int i = 0; i < 4; ++i) {
    c->constant(random_tensor(draw, DType::f32, channels, i == 3 ? Values::positive : Values::plain));
  }
}

void reduce_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  Shape axes;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (draw.chance(45)) axes.push_back(static_cast<std::int64_t>(d));
  }
  c->attributes.set("axes", axes);
  c->attributes.set("keepdims", draw.chance(50));
  c->input(random_tensor(draw, DType::f32, x, draw.chance(20) ? Values::special : Values::plain));
}

void arg_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  c->attributes.set("axis", axis_of(draw, x));
  c->attributes.set("keepdims", draw.chance(50));
  c->attributes.set("select_last", draw.chance(50));
  DType type = draw.one_of({DType::f32, DType::f32, DType::i64, DType::i32, DType::u8, DType::i8});
  c->input(random_tensor(draw, type, x, Values::special));
}

// ---- elementwise

DType any_type(Draw& draw) {
  return draw.one_of(
      {DType::f32, DType::f32, DType::i64, DType::i32, DType::u8, DType::i8, DType::boolean, DType::f16});
}

void unary_case(Draw& draw, Op op, Case* c) {
  DType type = draw.chance(70) ? DType::f32 : draw.one_of({DType::i32, DType::i64, DType::u8});
  if (op == Op::logical_not) type = DType::boolean;
  if (op == Op::bitwise_not) type = draw.one_of({DType::i32, DType::u8});
  if (op == Op::clamp) {
    c->attributes.set("min", static_cast<double>(draw.real(-2.0f, 0.0f)));
    c->attributes.set("max", static_cast<double>(draw.real(0.0f, 6.0f)));
  }
  if (op == Op::gelu) c->attributes.set("approximate", std::string(draw.chance(50) ? "none" : "tanh"));
  if (op == Op::softplus && draw.chance(50)) c->attributes.set("beta", 0.5);
  if (op == Op::cast) {
    const auto with_bf16 = [&] { return draw.chance(20) ? DType::bf16 : any_type(draw); };
    type = with_bf16();
    c->attributes.set("dtype", with_bf16());
  }
  Result<std::vector<Type>> ok = error(Code::internal, "");
  Attributes attributes = c->attributes;
  AOQ_CHECK(complete_attributes(op_def(op), attributes).ok());
  Type t{type, {Dim(1)}, std::nullopt};
  const Type* pointer = &t;
  ok = op_def(op).infer({op, std::span(&pointer, 1), attributes});
  if (!ok.ok()) type = DType::f32;
  c->input(random_tensor(draw, type, random_shape(draw, 0, 4), Values::special));
}

Shape broadcast_of(Draw& draw, const Shape& shape) {
  Shape out = shape;
  int kind = static_cast<int>(draw.between(0, 5));
  if (kind == 0) return {};
  if (kind == 1) return out;
  if (kind == 2) std::fill(out.begin(), out.end() - (out.empty() ? 0 : 1), 1);
  if (kind == 3 && !out.empty()) out.back() = 1;
  if (kind >= 4) {
    for (std::int64_t& d : out) d = draw.chance(40) ? 1 : d;
    out.erase(out.begin(), out.begin() + draw.between(0, static_cast<std::int64_t>(out.size())));
  }
  return out;
}

bool is_any(Op op, std::initializer_list<Op> ops) {
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

DType binary_type(Draw& draw, Op op) {
  if (is_any(op, {Op::logical_and, Op::logical_or, Op::logical_xor})) return DType::boolean;
  if (is_any(op, {Op::bitwise_and, Op::bitwise_or, Op::bitwise_xor})) {
    return draw.one_of({DType::i32, DType::i64, DType::u8, DType::i8});
  }
  if (is_any(op, {Op::div, Op::pow, Op::prelu})) return DType::f32;
  return draw.one_of({DType::f32, DType::f32, DType::f32, DType::i32, DType::i64, DType::u8, DType::i8});
}

void binary_case(Draw& draw, Op op, Case* c) {
  Shape shape = random_shape(draw, 0, 5);
  DType type = binary_type(draw, op);
  Shape a = op == Op::prelu || draw.chance(60) ? shape : broadcast_of(draw, shape);
  Shape b = broadcast_of(draw, shape);
  Values values = draw.chance(50) ? Values::special : Values::plain;
  c->input(random_tensor(draw, type, a, values));
  c->input(random_tensor(draw, type, b, values));
}

void where_case(Draw& draw, Case* c) {
  Shape shape = random_shape(draw, 0, 4);
  DType type = any_type(draw);
  c->input(random_tensor(draw, DType::boolean, broadcast_of(draw, shape)));
  c->input(random_tensor(draw, type, broadcast_of(draw, shape)));
  c->input(random_tensor(draw, type, shape));
}

void quantized_binary_case(Draw& draw, Op op, Case* c) {
  Shape shape = random_shape(draw, 0, 4);
  DType a = byte_type(draw), b = byte_type(draw);
  c->input(random_tensor(draw, a, draw.chance(70) ? shape : broadcast_of(draw, shape)));
  c->input(random_tensor(draw, b, broadcast_of(draw, shape)));
  set_qparams(draw, c, "a", a);
  set_qparams(draw, c, "b", b);
  set_output(draw, c, false);
  if (op != Op::qadd) return;
  std::string name = draw.one_of<const char*>({"none", "relu", "clamp"});
  c->attributes.set("activation", name);
  c->attributes.set("activation_min", -1.0);
  c->attributes.set("activation_max", static_cast<double>(draw.real(0.5f, 6.0f)));
}

// ---- codes

void quantize_case(Draw& draw, Op op, Case* c) {
  DType type = byte_type(draw);
  Shape x = random_shape(draw, 0, 4);
  c->input(random_tensor(draw, op == Op::quantize ? DType::f32 : type, x, Values::special));
  if (op == Op::quantize) c->attributes.set("dtype", type);
  int kind = static_cast<int>(draw.between(0, 2));
  if (kind == 0 || x.empty()) {
    c->attributes.set("scale", scale(draw));
    c->attributes.set("zero_point", zero_point(draw, type));
    return;
  }
  Shape parts;
  if (kind == 2) {
    parts = x;
    parts.back() = 1;
    c->attributes.set("granularity", std::string("token"));
  }
  Tensor scales = random_tensor(draw, DType::f32, parts, Values::positive);
  Tensor zero_points = Tensor::make(DType::i32, parts).value();
  for (std::int64_t i = 0; i < zero_points.element_count(); ++i) {
    store_integer(DType::i32, zero_points.mutable_bytes().data(), i, zero_point(draw, type));
  }
  c->input(std::move(scales));
  if (draw.chance(60)) c->input(std::move(zero_points));
}

void choose_qparams_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 0, 4);
  if (!x.empty() && draw.chance(10)) x[0] = 0;
  c->input(random_tensor(draw, DType::f32, x, draw.chance(20) ? Values::special : Values::plain));
  c->attributes.set("dtype", byte_type(draw));
  if (!x.empty() && draw.chance(50)) c->attributes.set("granularity", std::string("token"));
  c->attributes.set("reduce_range", draw.chance(50));
  if (draw.chance(40)) {
    c->attributes.set("formula", std::string("aten"));
  } else {
    c->attributes.set("symmetric", draw.chance(50));
  }
}

void requantize_case(Draw& draw, Case* c) {
  DType type = byte_type(draw);
  c->input(random_tensor(draw, type, random_shape(draw, 0, 4)));
  set_qparams(draw, c, "x", type);
  set_output(draw, c, false);
}

void lookup_case(Draw& draw, Case* c) {
  c->input(random_tensor(draw, byte_type(draw), random_shape(draw, 0, 4)));
  c->constant(random_tensor(draw, draw.one_of({DType::u8, DType::i8, DType::f32}), {256}));
}

// ---- data movement

void permute_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 7);
  Shape perm(x.size());
  for (std::size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<std::int64_t>(i);
  for (std::size_t i = perm.size(); i-- > 1;) {
    std::swap(perm[i], perm[static_cast<std::size_t>(draw.between(0, static_cast<std::int64_t>(i)))]);
  }
  c->attributes.set("perm", perm);
  c->input(random_tensor(draw, any_type(draw), x));
}

void reshape_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 0, 4);
  std::int64_t n = 1;
  for (std::int64_t d : x) n *= d;
  c->attributes.set("shape", std::vector<Dim>{n, 1});
  c->input(random_tensor(draw, any_type(draw), x));
}

void slice_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  Shape axes, steps;
  std::vector<Dim> starts, ends;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (draw.chance(40)) continue;
    std::int64_t step = draw.one_of<std::int64_t>({1, 1, 2, 3, -1, -2});
    std::int64_t lo = draw.between(0, x[d] - 1), hi = draw.between(lo, x[d] - 1);
    axes.push_back(draw.chance(50) ? static_cast<std::int64_t>(d)
                                   : static_cast<std::int64_t>(d) - static_cast<std::int64_t>(x.size()));
    steps.push_back(step);
    starts.emplace_back(step > 0 ? lo : hi);
    ends.emplace_back(step > 0 ? hi + 1 : lo - 1);
  }
  c->attributes = {{"axes", axes}, {"starts", starts}, {"ends", ends}, {"steps", steps}};
  c->input(random_tensor(draw, any_type(draw), x));
}

void expand_case(Draw& draw, Case* c) {
  Shape shape = random_shape(draw, 0, 4);
  std::vector<Dim> dims(shape.begin(), shape.end());
  c->attributes.set("shape", dims);
  c->input(random_tensor(draw, any_type(draw), broadcast_of(draw, shape)));
}

void tile_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 0, 4);
  Shape repeats;
  for (std::size_t i = 0; i < x.size(); ++i) repeats.push_back(draw.between(1, 3));
  c->attributes.set("repeats", repeats);
  c->input(random_tensor(draw, any_type(draw), x));
}

void flip_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  Shape axes;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (draw.chance(50)) axes.push_back(static_cast<std::int64_t>(d));
  }
  c->attributes.set("axes", axes);
  c->input(random_tensor(draw, any_type(draw), x));
}

void pad_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  Shape pads;
  for (std::size_t i = 0; i < 2 * x.size(); ++i) {
    pads.push_back(draw.chance(20) && x[i % x.size()] > 4 ? -2 : draw.between(0, 3));
  }
  c->attributes.set("pads", pads);
  c->attributes.set("value", draw.chance(50) ? 0.0 : 3.0);
  c->attributes.set("mode", std::string(draw.chance(80) ? "constant" : "edge"));
  c->input(random_tensor(draw, any_type(draw), x));
}

void concat_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  auto axis = static_cast<std::size_t>(draw.between(0, static_cast<std::int64_t>(x.size()) - 1));
  c->attributes.set("axis", draw.chance(50) ? static_cast<std::int64_t>(axis)
                                            : static_cast<std::int64_t>(axis) - static_cast<std::int64_t>(x.size()));
  DType type = any_type(draw);
  for (std::int64_t i = 0, n = draw.between(1, 4); i < n; ++i) {
    c->input(random_tensor(draw, type, x));
    x[axis] = draw.between(1, 5);
  }
}

void gather_case(Draw& draw, Case* c) {
  Shape x = random_shape(draw, 1, 4);
  auto rank = static_cast<std::int64_t>(x.size());
  std::int64_t axis = draw.between(0, rank - 1);
  c->attributes.set("axis", draw.chance(50) ? axis : axis - rank);
  DType type = draw.one_of({DType::i32, DType::i64});
  Shape shape = draw.chance(20) ? Shape{} : Shape{draw.between(1, 4), draw.between(1, 3)};
  Tensor indices = Tensor::make(type, shape).value();
  std::int64_t size = x[static_cast<std::size_t>(axis)];
  for (std::int64_t i = 0; i < indices.element_count(); ++i) {
    store_integer(type, indices.mutable_bytes().data(), i, draw.between(-size, size - (draw.chance(98) ? 1 : 0)));
  }
  c->input(random_tensor(draw, any_type(draw), x));
  c->input(std::move(indices));
}

void one_hot_case(Draw& draw, Case* c) {
  Shape shape = random_shape(draw, 0, 3);
  if (draw.large) shape = {3000};
  auto rank = static_cast<std::int64_t>(shape.size());
  c->attributes.set("depth", draw.between(1, 12));
  c->attributes.set("axis", draw.between(-rank - 1, rank));
  c->attributes.set("dtype", draw.one_of({DType::f32, DType::i64, DType::u8, DType::f16}));
  c->attributes.set("on", 2.0);
  c->input(random_tensor(draw, draw.one_of({DType::i32, DType::i64}), shape));
}

std::int64_t gates_of(Op op) {
  if (is_any(op, {Op::lstm, Op::qlstm})) return 4;
  return is_any(op, {Op::gru, Op::qgru}) ? 3 : 1;
}

void recurrent_case(Draw& draw, Op op, Case* c) {
  const bool is_quantized = is_any(op, {Op::qlstm, Op::qgru, Op::qrnn});
  std::int64_t gates = gates_of(op);
  std::int64_t steps = draw.between(1, 5), batch = draw.between(1, 3), input = draw.between(1, 20);
  std::int64_t hidden = draw.one_of<std::int64_t>({1, 5, 8, 16, 19});
  std::string direction = draw.one_of<const char*>({"forward", "reverse", "bidirectional"});
  std::int64_t d = direction == "bidirectional" ? 2 : 1;
  c->attributes.set("hidden", hidden);
  c->attributes.set("direction", direction);
  if (gates == 3) c->attributes.set("linear_before_reset", draw.chance(50));
  if (is_quantized) c->attributes.set("reduce_range", draw.chance(50));
  if (is_quantized && gates > 1 && draw.chance(30)) {
    for (const char* name : {"x", "state"}) {
      c->attributes.set(std::string(name) + "_scale", draw.one_of({0.01, 0.05, 1.0}));
      c->attributes.set(std::string(name) + "_zero_point", draw.between(0, 255));
    }
  }
  c->input(random_tensor(draw, DType::f32, {steps, batch, input}));
  DType weight = is_quantized ? DType::i8 : DType::f32;
  c->constant(random_tensor(draw, weight, {d, gates * hidden, input}));
  c->constant(random_tensor(draw, weight, {d, gates * hidden, hidden}));
  for (int i = 0; is_quantized && i < 2; ++i) {
    c->constant(positive_scales(draw, draw.chance(50) ? Shape{d} : Shape{d, gates * hidden}));
  }
  if (draw.chance(70)) {
    c->constant(random_tensor(draw, DType::f32, {d, 2 * gates * hidden}));
  } else {
    c->absent();
  }
  c->absent();
  for (int i = 0; i < (gates == 4 ? 2 : 1); ++i) {
    if (draw.chance(50)) {
      c->input(random_tensor(draw, DType::f32, {d, batch, hidden}));
    } else {
      c->absent();
    }
  }
}

// Scales of the size of what they are for, so that few codes saturate.
void static_recurrent_case(Draw& draw, Op op, Case* c) {
  const bool is_lstm = op == Op::qlstm_static;
  const std::int64_t gates = is_lstm ? 4 : 3, values = is_lstm ? 7 : 8;
  const std::int64_t steps = draw.between(1, 5), batch = draw.between(1, 3), input = draw.between(1, 20);
  const std::int64_t hidden = draw.one_of<std::int64_t>({1, 5, 8, 16, 19, 40});
  const std::string direction = draw.one_of<const char*>({"forward", "reverse", "bidirectional"});
  const std::int64_t d = direction == "bidirectional" ? 2 : 1;
  c->attributes.set("hidden", hidden);
  c->attributes.set("direction", direction);
  auto qparams = [&](const std::string& name) {
    c->attributes.set(name + "_scale", draw.one_of({0.01, 0.03, 0.1}));
    c->attributes.set(name + "_zero_point", draw.between(0, 255));
  };
  std::vector<double> scales;
  std::vector<std::int64_t> zero_points;
  for (std::int64_t i = 0; i < d * values; ++i) {
    scales.push_back(draw.one_of({0.004, 0.02, 0.06}));
    zero_points.push_back(draw.chance(80) ? draw.between(100, 150) : draw.between(0, 255));
  }
  c->attributes.set("scales", scales);
  c->attributes.set("zero_points", zero_points);
  qparams("x");
  c->input(random_tensor(draw, DType::u8, {steps, batch, input}));
  c->constant(random_tensor(draw, DType::i8, {d, gates * hidden, input}));
  c->constant(random_tensor(draw, DType::i8, {d, gates * hidden, hidden}));
  for (int i = 0; i < 2; ++i) {
    c->constant(positive_scales(draw, draw.chance(50) ? Shape{d} : Shape{d, gates * hidden}));
  }
  if (draw.chance(70)) {
    c->constant(random_tensor(draw, DType::f32, {d, 2 * gates * hidden}));
  } else {
    c->absent();
  }
  for (const char* name : {"initial_h", "initial_c"}) {
    if (!is_lstm && std::string_view(name) == "initial_c") continue;
    if (draw.chance(50)) {
      qparams(name);
      c->input(random_tensor(draw, DType::u8, {d, batch, hidden}));
    } else {
      c->absent();
    }
  }
}

// Bags by offsets or by rows; now and then an index or offset that is out of range.
void embedding_case(Draw& draw, Op op, Case* c) {
  const bool is_quantized = op == Op::qembedding;
  std::int64_t rows = draw.between(1, 9), columns = draw.one_of<std::int64_t>({1, 3, 8, 17, 32}),
               bags = draw.between(0, 4);
  std::string mode = is_quantized ? draw.one_of<const char*>({"none", "sum", "mean"})
                                  : draw.one_of<const char*>({"sum", "mean", "max"});
  c->attributes.set("mode", mode);
  if (is_quantized && draw.chance(50)) {
    narrow_table(draw, c, rows, columns);
  } else if (is_quantized) {
    std::int64_t bits = draw.one_of<std::int64_t>({8, 4});
    c->attributes.set("bits", bits);
    c->attributes.set("columns", columns);
    c->constant(random_tensor(draw, DType::u8, {rows, (columns * bits + 7) / 8}));
    c->constant(positive_scales(draw, {rows}));
    c->constant(random_tensor(draw, DType::f32, {rows}));
  } else {
    c->input(random_tensor(draw, DType::f32, {rows, columns}));
  }
  bool has_offsets = mode != "none" && draw.chance(60);
  std::int64_t count = draw.between(0, 9);
  DType type = draw.one_of({DType::i32, DType::i64});
  Tensor indices = Tensor::make(type, has_offsets ? Shape{count} : Shape{bags, draw.between(0, 3)}).value();
  for (std::int64_t i = 0; i < indices.element_count(); ++i) {
    store_integer(type, indices.mutable_bytes().data(), i, draw.between(-rows, rows - (draw.chance(98) ? 1 : 0)));
  }
  c->input(std::move(indices));
  if (!has_offsets) return;
  bool last = draw.chance(50);
  c->attributes.set("include_last_offset", last);
  Tensor offsets = Tensor::make(DType::i64, {bags + last}).value();
  std::int64_t at = 0;
  for (std::int64_t b = 0; b < offsets.element_count(); ++b) {
    store_integer(DType::i64, offsets.mutable_bytes().data(), b, at);
    at = draw.between(at, count + (draw.chance(95) ? 0 : 1));
  }
  c->input(std::move(offsets));
}

}  // namespace

bool generate(Draw& draw, Op op, Case* c) {
  if (op == Op::conv) return float_dot(draw, op, c, random_conv(draw, c)), true;
  if (op == Op::linear) return float_dot(draw, op, c, random_linear(draw, c)), true;
  if (op == Op::qconv) return quantized_dot(draw, op, c, random_conv(draw, c)), true;
  if (op == Op::qlinear) return quantized_dot(draw, op, c, random_linear(draw, c)), true;
  if (is_any(op, {Op::linear_weight_only, Op::linear_dynamic})) return narrow_linear_case(draw, op, c), true;
  if (op == Op::fake_quantize) return fake_quantize_case(draw, c), true;
  if (op == Op::conv_transpose) return conv_transpose_case(draw, c), true;
  if (is_any(op, {Op::matmul, Op::qmatmul})) return matmul_case(draw, op, c), true;
  if (op == Op::attention) return attention_case(draw, c), true;
  if (is_any(op, {Op::max_pool, Op::avg_pool, Op::qavg_pool})) return pool_case(draw, op, c), true;
  if (op == Op::resize) return resize_case(draw, c), true;
  if (is_any(op, {Op::softmax, Op::log_softmax})) return along_axis_case(draw, c), true;
  if (is_any(op, {Op::layer_norm, Op::qlayer_norm, Op::rms_norm})) return row_norm_case(draw, op, c), true;
  if (op == Op::batch_norm) return batch_norm_case(draw, c), true;
  if (std::string_view(op_name(op)).substr(0, 7) == "reduce_") return reduce_case(draw, c), true;
  if (is_any(op, {Op::argmax, Op::argmin})) return arg_case(draw, c), true;
  if (is_any(op, {Op::qadd, Op::qmul})) return quantized_binary_case(draw, op, c), true;
  if (is_any(op, {Op::quantize, Op::dequantize})) return quantize_case(draw, op, c), true;
  if (op == Op::choose_qparams) return choose_qparams_case(draw, c), true;
  if (op == Op::requantize) return requantize_case(draw, c), true;
  if (op == Op::lookup) return lookup_case(draw, c), true;
  if (op == Op::where) return where_case(draw, c), true;
  if (op == Op::permute) return permute_case(draw, c), true;
  if (op == Op::reshape) return reshape_case(draw, c), true;
  if (op == Op::slice) return slice_case(draw, c), true;
  if (op == Op::expand) return expand_case(draw, c), true;
  if (op == Op::tile) return tile_case(draw, c), true;
  if (op == Op::flip) return flip_case(draw, c), true;
  if (op == Op::pad) return pad_case(draw, c), true;
  if (op == Op::concat) return concat_case(draw, c), true;
  if (op == Op::gather) return gather_case(draw, c), true;
  if (op == Op::one_hot) return one_hot_case(draw, c), true;
  if (is_any(op, {Op::lstm, Op::gru, Op::rnn, Op::qlstm, Op::qgru, Op::qrnn})) {
    return recurrent_case(draw, op, c), true;
  }
  if (is_any(op, {Op::qlstm_static, Op::qgru_static})) return static_recurrent_case(draw, op, c), true;
  if (is_any(op, {Op::embedding_bag, Op::qembedding})) return embedding_case(draw, op, c), true;
  if (op == Op::dims) return c->attributes.set("values", std::vector<Dim>{3, 5, draw.between(0, 9)}), true;
  if (op == Op::iota) return c->attributes.set("length", std::vector<Dim>{draw.between(0, 40)}), true;
  if (!op_def(op).has_trait(kElementwise)) return false;
  if (op_def(op).inputs[1].name == nullptr) return unary_case(draw, op, c), true;
  return binary_case(draw, op, c), true;
}

}  // namespace aoq::cpu::test
