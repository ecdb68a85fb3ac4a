// Instances of linear_weight_only and linear_dynamic: every narrow type, groups that end early, all forms of zero
// points; and of fake_quantize.
#include <cmath>

#include <doctest/doctest.h>

#include "tests/backends/cpu/rows_cases.h"

namespace aoq::cpu::test {
namespace {

Tensor i32_scalar(std::int64_t value) {
  Tensor t = Tensor::make(DType::i32, {}).value();
  store_integer(DType::i32, t.mutable_bytes().data(), 0, value);
  return t;
}

Tensor narrow_zero_points(Draw& draw, DType weight, const Shape& parts) {
  const bool is_signed = is_signed_integer(weight);
  Tensor t = Tensor::make(is_signed ? DType::i8 : DType::u8, parts).value();
  const auto lo = static_cast<std::int64_t>(dtype_info(weight).min),
             hi = static_cast<std::int64_t>(dtype_info(weight).max);
  const bool anywhere = draw.chance(20);
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    const std::int64_t z = !anywhere   ? draw.between(lo, hi)
                           : is_signed ? draw.between(-128, 127)
                                       : draw.between(0, 255);
    store_integer(t.dtype(), t.mutable_bytes().data(), i, z);
  }
  return t;
}

// From numbers of one size to all sizes there are, which differ by row.
void spread_magnitudes(Draw& draw, Tensor& x) {
  const int reach = draw.one_of({1, 8, 30, 120});
  const std::int64_t columns = x.shape().back();
  std::int64_t middle = 0, i = 0;
  for (float& v : x.mutable_as<float>()) {
    if (i++ % columns == 0) middle = draw.between(-reach, reach);
    v = std::ldexp(v, static_cast<int>(middle + draw.between(-reach, reach) / 4));
  }
}

// Small integers, which have few digits in fixed point.
void round_to_integers(Tensor& x) {
  for (float& v : x.mutable_as<float>()) v = std::round(v);
}

DType narrow_weight(Draw& draw, Op op) {
  if (draw.chance(60)) return draw.one_of({DType::i4, DType::u4, DType::i8, DType::u8});
  if (op != Op::linear_dynamic && draw.chance(60)) {
    return draw.one_of({DType::f4_e2m1, DType::f6_e2m3, DType::f6_e3m2, DType::f8_e4m3fn, DType::f8_e5m2,
                        DType::f8_e4m3fnuz, DType::f8_e5m2fnuz});
  }
  return draw.one_of({DType::u1, DType::u2, DType::u3, DType::u5, DType::u6, DType::u7, DType::i1, DType::i2, DType::i3,
                      DType::i5, DType::i6, DType::i7});
}

struct NarrowShape {
  DType type;
  std::int64_t rows, depth, group;
};

// Codes, scale and zero points.
void narrow_operands(Draw& draw, Op op, Case* c, const NarrowShape& n) {
  Tensor weight = random_tensor(draw, n.type, {n.rows, n.depth});
  if (is_float(n.type)) {  // every code
    const DType bits = dtype_info(n.type).bits == 4 ? DType::u4 : dtype_info(n.type).bits == 6 ? DType::u6 : DType::u8;
    const bool finite = draw.chance(50);
    for (std::int64_t i = 0; i < weight.element_count(); ++i) {
      const double before = load_as_double(n.type, weight.bytes().data(), i);
      store_integer(bits, weight.mutable_bytes().data(), i, draw.between(0, 255));
      if (finite && !std::isfinite(load_as_double(n.type, weight.bytes().data(), i))) {
        store_from_double(n.type, weight.mutable_bytes().data(), i, before);
      }
    }
  }
  c->constant(std::move(weight));
  const Shape parts{n.rows, (n.depth + n.group - 1) / n.group};
  const DType scale = draw.chance(70) ? DType::f32 : draw.one_of({DType::bf16, DType::f16, DType::f8_e8m0});
  Tensor scales = Tensor::make(scale, parts).value();
  for (std::int64_t i = 0; i < scales.element_count(); ++i) {
    store_from_double(scale, scales.mutable_bytes().data(), i, static_cast<double>(draw.real(0.001f, 0.1f)));
  }
  c->constant(std::move(scales));
  if (is_float(n.type) || draw.chance(50)) {
    c->absent();
  } else if (op != Op::linear_dynamic && draw.chance(40)) {
    c->constant(random_tensor(draw, draw.one_of({DType::f32, DType::bf16}), parts));
  } else {
    c->constant(narrow_zero_points(draw, n.type, parts));
  }
}

}  // namespace

void narrow_linear_case(Draw& draw, Op op, Case* c) {
  std::int64_t depth = draw.between(1, 90);
  const std::int64_t columns = draw.one_of<std::int64_t>({1, 7, 8, 9, 16, 17, 33, 64, 70, 129});
  std::int64_t group = 8 * draw.between(1, 6);
  if (draw.large) depth = draw.between(200, 700);
  if (draw.large && draw.chance(40)) group = 8 * draw.between(20, 80);
  if (draw.chance(25)) group = depth + draw.between(0, 3);
  Shape x{draw.chance(40) ? 1 : draw.between(1, draw.large ? 130 : 14), depth};
  if (draw.chance(20)) x.insert(x.begin(), draw.between(1, 3));
  c->attributes.set("group", group);
  const DType type = narrow_weight(draw, op);
  const bool is_special = op == Op::linear_weight_only && draw.chance(10);
  Tensor input = random_tensor(draw, DType::f32, x, is_special || draw.chance(3) ? Values::special : Values::plain);
  if (op == Op::linear_weight_only && draw.chance(20)) round_to_integers(input);
  if (op == Op::linear_weight_only && draw.chance(40)) spread_magnitudes(draw, input);
  c->input(std::move(input));
  narrow_operands(draw, op, c, {type, columns, depth, group});
  if (draw.chance(50)) {
    c->constant(random_tensor(draw, DType::f32, {columns}));
  } else {
    c->absent();
  }
  if (op == Op::linear_weight_only) return;
  c->attributes.set("symmetric", draw.chance(50));
  if (draw.chance(70)) return;
  Tensor x_scale = random_tensor(draw, DType::f32, {}, Values::positive);
  x_scale.mutable_as<float>()[0] *= 0.05f;
  c->input(std::move(x_scale));
  if (draw.chance(50)) c->input(i32_scalar(draw.between(-128, draw.chance(5) ? 128 : 127)));
}

void narrow_table(Draw& draw, Case* c, std::int64_t rows, std::int64_t columns) {
  const std::int64_t group = draw.chance(30) ? columns + draw.between(0, 3) : draw.between(1, columns);
  c->attributes.set("group", group);
  c->attributes.set("columns", columns);
  const DType type = narrow_weight(draw, Op::qembedding);
  narrow_operands(draw, Op::qembedding, c, {type, rows, columns, group});
  if (c->values.back() == nullptr) {  // no zero points: one for all
    c->values.pop_back();
    c->data.pop_back();
    const DType zero = is_float(type) ? DType::f32 : is_signed_integer(type) ? DType::i8 : DType::u8;
    c->constant(random_tensor(draw, zero, {1, 1}));
  }
  if (draw.chance(40)) return;
  // A linear layer with the same weight, whose packed codes the table may read.
  Value* x = c->graph.constant(random_tensor(draw, DType::f32, {1, columns}));
  REQUIRE(c->graph.create(Op::linear_weight_only, {x, c->values[0], c->values[1]}, {{"group", group}}).ok());
}

void fake_quantize_case(Draw& draw, Case* c) {
  Shape shape = random_shape(draw, 1, 3);
  if (shape.size() > 1 && draw.chance(10)) shape[0] = 0;
  const std::int64_t columns = shape.back();
  Tensor x = random_tensor(draw, DType::f32, shape, draw.chance(15) ? Values::special : Values::plain);
  // Numbers of all sizes, for the subnormal ones and those that saturate.
  const int reach = draw.chance(50) ? 12 : 0;
  for (float& v : x.mutable_as<float>()) {
    v = std::ldexp(v, static_cast<int>(draw.between(-reach, reach)));
    if (draw.chance(10)) v = -0.0f;
  }
  c->input(std::move(x));
  c->attributes.set("dtype",
                    draw.one_of({DType::f4_e2m1, DType::f6_e2m3, DType::f6_e3m2, DType::f8_e4m3fn, DType::f8_e5m2,
                                 DType::f8_e4m3fnuz, DType::f8_e5m2fnuz, DType::f5_e2m2, DType::f5_e3m1}));
  if (draw.chance(30)) {
    c->attributes.set("amax_min", static_cast<double>(draw.real(0.001f, 1.0f)));
    c->attributes.set("amax_max", static_cast<double>(draw.real(1.0f, 3.0f)));
  }
  if (draw.chance(30)) {
    Tensor scale = random_tensor(draw, DType::f32, {1}, Values::positive);
    if (draw.chance(10)) scale.mutable_as<float>()[0] = draw.one_of({0.0f, -1.0f, INFINITY, NAN});
    return c->input(std::move(scale));
  }
  if (draw.chance(30)) return;
  c->attributes.set("granularity", std::string(draw.chance(50) ? "group" : "token"));
  std::int64_t group = draw.between(1, columns);
  while (columns % group != 0) --group;
  c->attributes.set("group", group);
}

}  // namespace aoq::cpu::test
