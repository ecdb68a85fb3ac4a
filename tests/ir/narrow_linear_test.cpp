#include <limits>

#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Attributes group(std::int64_t n) {
  return {{"group", n}};
}

Tensor codes(DType dtype, Shape shape, const Ints& values) {
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  for (std::size_t i = 0; i < values.size(); ++i) {
    store_integer(dtype, t.mutable_bytes().data(), static_cast<std::int64_t>(i), values[i]);
  }
  return t;
}

Tensor rows() {
  return f32({2, 5}, {1, 2, 3, 4, 5, -1, 0, 1, 0, 2});
}

TEST_CASE("linear_weight_only scales the sums of groups; the last group may be short") {
  const Tensor weight = codes(DType::i4, {2, 5}, {1, -1, 2, 0, 3, -8, 7, 0, 1, 1});
  const Tensor scale = f32({2, 2}, {0.5f, 2, 1, 10});
  // Column 0: (1 - 2 + 6) * 0.5 + 15 * 2, and (-1 + 2) * 0.5 + 6 * 2.
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale}, group(3))) == Floats{32.5f, 96, 12.5f, 28});
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale, std::nullopt, f32({2}, {100, -1})}, group(3))) ==
        Floats{132.5f, 95, 112.5f, 27});
}

TEST_CASE("zero points are integers, or floats that are added") {
  const Tensor weight = codes(DType::u4, {1, 5}, {9, 7, 10, 8, 11});
  const Tensor scale = f32({1, 2}, {0.5f, 2});
  // 8 is the zero of u4: codes 1, -1, 2, 0, 3.
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale}, group(3))) == Floats{32.5f, 12.5f});
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale, u8({1, 2}, {8, 8})}, group(3))) ==
        Floats{32.5f, 12.5f});
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale, u8({1, 2}, {7, 10})}, group(3))) ==
        Floats{(5 + 6) * 0.5f + (15 - 18) * 2.0f, 0.5f + (6 - 4) * 2.0f});
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale, f32({1, 2}, {0.25f, -1})}, group(3))) ==
        Floats{32.5f + 6 * 0.25f - 9, 12.5f - 2});
  const Tensor halves = tensor_of<std::uint16_t>(DType::bf16, {1, 2}, {0x3e80, 0xbf80});  // 0.25, -1
  CHECK(floats(run(Op::linear_weight_only, {rows(), weight, scale, halves}, group(3))) ==
        Floats{32.5f + 6 * 0.25f - 9, 12.5f - 2});
}

TEST_CASE("codes may be of any narrow type") {
  const Tensor x = f32({1, 2}, {1, 10});
  const Tensor scale = f32({1, 1}, {2});
  auto one = [&](const Tensor& weight) { return floats(run(Op::linear_weight_only, {x, weight, scale}, group(2)))[0]; };
  CHECK(one(codes(DType::i1, {1, 2}, {-1, 0})) == -2);
  CHECK(one(codes(DType::u1, {1, 2}, {1, 0})) == -20);
  CHECK(one(codes(DType::i3, {1, 2}, {-4, 3})) == 52);
  CHECK(one(codes(DType::u6, {1, 2}, {0, 63})) == 2 * (-32 + 310));
  CHECK(one(codes(DType::u8, {1, 2}, {0, 255})) == 2 * (-128 + 1270));
  Tensor floats4 = Tensor::make(DType::f4_e2m1, {1, 2}).value();
  store_from_double(DType::f4_e2m1, floats4.mutable_bytes().data(), 0, -1.5);
  store_from_double(DType::f4_e2m1, floats4.mutable_bytes().data(), 1, 6);
  CHECK(one(floats4) == 2 * (-1.5f + 60));
  const Tensor floats8 = tensor_of<std::uint8_t>(DType::f8_e4m3fn, {1, 2}, {0x38, 0xb8});  // 1, -1
  CHECK(one(floats8) == -18);
  const Tensor power = tensor_of<std::uint8_t>(DType::f8_e8m0, {1, 1}, {125});  // 2^-2
  CHECK(floats(run(Op::linear_weight_only, {x, floats8, power}, group(2))) == Floats{-2.25f});
}

TEST_CASE("linear_dynamic quantizes each row of x") {
  // Both rows cover 255, so they have scale 1. Row 0 has zero point -128; row 1 has 0 and codes -128 and 127.
  const Tensor x = f32({2, 2}, {0, 255, -127.5f, 127.5f});
  const Tensor weight = codes(DType::i4, {1, 2}, {3, -2});
  const Tensor scale = f32({1, 1}, {0.5f});
  CHECK(floats(run(Op::linear_dynamic, {x, weight, scale}, group(2))) == Floats{-255, (-128 * 3 - 127 * 2) * 0.5f});
  Attributes symmetric = group(2);
  symmetric.set("symmetric", true);
  // 255 / 127.5 is the scale of row 0, and 255 is above its largest code.
  CHECK(floats(run(Op::linear_dynamic, {x, weight, scale}, symmetric))[0] == -127 * 2.0f);
}

TEST_CASE("linear_dynamic takes a given scale, zero points of the weight, and a bias") {
  const Tensor x = f32({1, 3}, {1, 2, -3});
  const Tensor weight = codes(DType::u4, {1, 3}, {9, 6, 15});
  const Tensor scale = f32({1, 2}, {2, 10});
  // Codes 1, -2 | 7; without zero points 8 is zero.
  const float plain = (1 - 4) * 2 + -21 * 10;
  const Operands given = {x, weight, scale, std::nullopt, std::nullopt, f32({1}, {0.5f})};
  CHECK(floats(run(Op::linear_dynamic, given, group(2))) == Floats{plain});
  Operands more = given;
  more[3] = u8({1, 2}, {7, 15});
  more[4] = f32({1}, {100});
  more.push_back(i32({}, {3}));
  CHECK(floats(run(Op::linear_dynamic, more, group(2))) == Floats{(2 - 2) * 2 + 0 * 10 + 100});
}

TEST_CASE("narrow linears check operands") {
  const Tensor x = f32({1, 4}, {1, 2, 3, 4});
  const Tensor weight = codes(DType::i4, {2, 4}, Ints(8, 1));
  const Tensor scale = f32({2, 2}, {1, 1, 1, 1});
  for (Op op : {Op::linear_weight_only, Op::linear_dynamic}) {
    CHECK(code_of(op, {x, weight, scale}, group(2)) == Code::ok);
    CHECK(code_of(op, {x, weight, scale}, group(4)) == Code::invalid_model);
    CHECK(code_of(op, {x, weight, scale}, group(0)) == Code::invalid_model);
    CHECK(code_of(op, {x, weight, scale}, group(-2)) == Code::invalid_model);
    CHECK(code_of(op, {x, codes(DType::i16, {2, 4}, Ints(8, 1)), scale}, group(2)) == Code::invalid_model);
    CHECK(code_of(op, {x, weight, codes(DType::i32, {2, 2}, Ints(4, 1))}, group(2)) == Code::invalid_model);
    CHECK(code_of(op, {x, weight, scale, u8({2, 2}, {0, 0, 0, 0})}, group(2)) == Code::invalid_model);
    CHECK(code_of(op, {x, weight, scale, i8({2, 1}, {0, 0})}, group(2)) == Code::invalid_model);
    CHECK(code_of(op, {x, weight, scale, std::nullopt, f32({1}, {0})}, group(2)) == Code::invalid_model);
    CHECK(code_of(op, {f32({1, 3}, {1, 2, 3}), weight, scale}, group(2)) == Code::invalid_model);
  }
  const Tensor floats8 = tensor_of<std::uint8_t>(DType::f8_e4m3fn, {2, 4}, std::vector<std::uint8_t>(8, 1));
  CHECK(code_of(Op::linear_weight_only, {x, floats8, scale}, group(2)) == Code::ok);
  CHECK(code_of(Op::linear_weight_only, {x, floats8, scale, i8({2, 2}, {0, 0, 0, 0})}, group(2)) ==
        Code::invalid_model);
  CHECK(code_of(Op::linear_dynamic, {x, floats8, scale}, group(2)) == Code::invalid_model);
  CHECK(code_of(Op::linear_dynamic, {x, weight, scale, scale}, group(2)) == Code::invalid_model);
  CHECK(code_of(Op::linear_weight_only, {x, weight, scale, scale}, group(2)) == Code::ok);
}

TEST_CASE("linear_dynamic checks its data") {
  const Tensor weight = codes(DType::i4, {1, 2}, {1, 1});
  const Tensor scale = f32({1, 1}, {1});
  const Operands infinite = {f32({1, 2}, {1, kInfinity}), weight, scale};
  CHECK(code_of(Op::linear_dynamic, infinite, group(2)) == Code::invalid_data);
  Operands given = {f32({1, 2}, {1, 2}), weight, scale, std::nullopt, std::nullopt, f32({}, {0})};
  CHECK(code_of(Op::linear_dynamic, given, group(2)) == Code::invalid_data);
  given[5] = f32({}, {1});
  given.push_back(i32({}, {128}));
  CHECK(code_of(Op::linear_dynamic, given, group(2)) == Code::invalid_data);
  given[5] = std::nullopt;
  CHECK(code_of(Op::linear_dynamic, given, group(2)) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
