#include <algorithm>
#include <limits>
#include <random>

#include "ir/narrow_linear.h"
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

TEST_CASE("a block's unit is the smallest that holds its largest number") {
  for (float m : {1.0f, 0.99607837f, 0.9960785f, 1.5f, 3e38f, std::numeric_limits<float>::max(), 1e-30f}) {
    const FixedPointUnit unit = fixed_point_unit(m);
    CHECK(unit.unit * unit.inverse == 1.0f);
    CHECK(static_cast<double>(m) <= 8355711.0 * static_cast<double>(unit.unit));
    CHECK(static_cast<double>(m) > 8355711.0 * static_cast<double>(unit.unit) / 2);
  }
  CHECK(fixed_point_unit(8355711.0f).unit == 1.0f);
  CHECK(fixed_point_unit(8355711.5f).unit == 2.0f);
  for (float m : {0.0f, 1e-40f, 1e-36f}) CHECK(fixed_point_unit(m).unit == std::ldexp(1.0f, -126));
  CHECK(std::isnan(fixed_point_unit(kInfinity).unit));
  CHECK(std::isnan(fixed_point_unit(std::numeric_limits<float>::quiet_NaN()).unit));
}

TEST_CASE("digits are signed bytes and add up to their number") {
  for (std::int32_t x : {0, 1, -1, 127, 128, -128, -129, 32639, 32640, 65536, -65537, 8355711, -8355711}) {
    std::int32_t sum = 0;
    for (int i = 2; i >= 0; --i) {
      const std::int32_t digit = fixed_point_digit(x, i);
      CHECK((digit >= -128 && digit <= 127));
      sum = 256 * sum + digit;
    }
    CHECK(sum == x);
  }
}

TEST_CASE("what a block does not hold beside its largest number is rounded, half to even") {
  const Tensor weight = codes(DType::i4, {1, 4}, {0, 1, 1, 1});
  const Tensor scale = f32({1, 2}, {1, 1});
  auto of = [&](const Floats& x, std::int64_t n) {
    return floats(
        run(Op::linear_weight_only, {f32({1, 4}, x), weight, n == 4 ? f32({1, 1}, {1}) : scale}, group(n)))[0];
  };
  // The unit of 8355711 is 1, that of 2 and less than 2^-21.
  CHECK(of({8355711, 0.5f, 0, 0}, 4) == 0);
  CHECK(of({8355711, 1.5f, 0, 0}, 4) == 2);
  CHECK(of({8355711, 0.5f, 0.75f, 0.25f}, 4) == 1);
  CHECK(of({8355711, 0.5f, 0.75f, 0.25f}, 2) == 1);  // rounded to 0 in the first group, exact in the second
  CHECK(of({0, 0.5f, 0.75f, 0.25f}, 4) == 1.5f);
  CHECK(of({8355712, 1, 3, 0}, 4) == 4);  // unit 2: 0 and 4
  CHECK(of({0, 1e-40f, 0, 0}, 4) == 0);
}

TEST_CASE("a block that is not finite makes its row NaN, and no other") {
  const Tensor weight = codes(DType::i4, {2, 300}, Ints(600, 1));
  const Tensor scale = f32({2, 1}, {1, 1});
  for (float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    Tensor x = f32({2, 300}, Floats(600, 1.0f));
    x.mutable_as<float>()[290] = bad;  // of row 0, in its second block
    const Floats y = floats(run(Op::linear_weight_only, {x, weight, scale}, group(300)));
    CHECK((std::isnan(y[0]) && std::isnan(y[1])));
    CHECK((y[2] == 300.0f && y[3] == 300.0f));
  }
}

TEST_CASE("sums of bf16 numbers of similar size are rounded once") {
  std::mt19937 random(7);
  Tensor x = Tensor::make(DType::f32, {8, 32}).value();
  for (float& v : x.mutable_as<float>()) {
    const auto mantissa = static_cast<float>(128 + random() % 128);  // 8 bits
    v = std::ldexp(random() % 2 == 0 ? mantissa : -mantissa, -static_cast<int>(random() % 15));
  }
  Ints w(32);
  for (std::int64_t& c : w) c = static_cast<std::int64_t>(random() % 16) - 8;
  const Floats y = floats(run(Op::linear_weight_only, {x, codes(DType::i4, {1, 32}, w), f32({1, 1}, {1})}, group(32)));
  for (std::size_t r = 0; r < 8; ++r) {
    double sum = 0;
    for (std::size_t k = 0; k < 32; ++k)
      sum += static_cast<double>(x.as<float>()[r * 32 + k]) * static_cast<double>(w[k]);
    CHECK(y[r] == static_cast<float>(sum));
  }
}

enum class Spread : std::uint8_t { uniform, heavy_tail, outlier };

Tensor spread(Spread kind, std::int64_t depth, std::mt19937& random) {
  Tensor x = Tensor::make(DType::f32, {1, depth}).value();
  auto uniform = [&] { return static_cast<float>(random()) / 2147483648.0f - 1.0f; };
  for (float& v : x.mutable_as<float>()) v = kind == Spread::heavy_tail ? std::pow(uniform(), 9.0f) * 100 : uniform();
  if (kind == Spread::outlier) x.mutable_as<float>()[random() % static_cast<std::uint32_t>(depth)] = 1000.0f;
  return x;
}

// The bound of ir/narrow_linear.h on one column's error, and the real sum.
struct Expected {
  double sum = 0, bound = 0;
};
Expected expected_of(const Tensor& x, const Ints& weight, const Floats& scale, std::int64_t n, std::int64_t z) {
  Expected e;
  const auto depth = static_cast<std::int64_t>(weight.size());
  for (std::int64_t begin = 0, end = 0; begin < depth; begin = end) {
    const std::int64_t g = begin / n;
    end = std::min({depth, (g + 1) * n, begin + kFixedPointBlock});
    float m = 0;
    double codes_sum = 0;
    for (std::int64_t k = begin; k < end; ++k) {
      const auto at = static_cast<std::size_t>(k);
      const auto code = static_cast<double>(weight[at] - z);
      m = std::max(m, std::abs(x.as<float>()[at]));
      e.sum += static_cast<double>(x.as<float>()[at]) * code * static_cast<double>(scale[static_cast<std::size_t>(g)]);
      codes_sum += std::abs(code);
    }
    const double unit = static_cast<double>(fixed_point_unit(m).unit);
    e.bound += unit * static_cast<double>(scale[static_cast<std::size_t>(g)]) * codes_sum;
    e.bound += (std::abs(e.sum) + e.bound) * std::ldexp(1.0, -24);
  }
  return e;
}

TEST_CASE("the error stays within its bound on even, heavy-tailed and outlying inputs") {
  std::mt19937 random(11);
  for (Spread kind : {Spread::uniform, Spread::heavy_tail, Spread::outlier}) {
    for (std::int64_t n : {32, 128, 700}) {
      for (int repeat = 0; repeat < 40; ++repeat) {
        const std::int64_t depth = 700, groups = (depth + n - 1) / n, z = repeat % 2 == 0 ? 0 : -120;
        const Tensor x = spread(kind, depth, random);
        Ints weight(static_cast<std::size_t>(depth));
        for (std::int64_t& c : weight) c = static_cast<std::int64_t>(random() % 16) - 8;
        Floats scale(static_cast<std::size_t>(groups));
        for (float& s : scale) s = static_cast<float>(1 + random() % 1000) * 1e-4f;
        Operands operands = {x, codes(DType::i4, {1, depth}, weight), f32({1, groups}, scale)};
        if (z != 0) {
          operands.emplace_back(i8({1, groups}, std::vector<std::int8_t>(static_cast<std::size_t>(groups), -120)));
        }
        const float y = floats(run(Op::linear_weight_only, operands, group(n)))[0];
        const Expected e = expected_of(x, weight, scale, n, z);
        CHECK(std::abs(static_cast<double>(y) - e.sum) <= e.bound);
      }
    }
  }
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
