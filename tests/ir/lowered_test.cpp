#include <random>

#include "ir/epilogue.h"
#include "tests/ir/op_test_support.h"

// Each lowered op against dequantize, the float op, quantize: at most one step apart.

namespace aoq {
namespace {

Tensor random_codes(DType dtype, Shape shape, unsigned seed) {
  std::mt19937 random(seed);
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(random() & 255u);
  return t;
}

Tensor dequantized(const Tensor& codes, double scale, std::int64_t zero_point) {
  return run(Op::dequantize, {codes}, {{"scale", scale}, {"zero_point", zero_point}});
}
Tensor quantized(const Tensor& x, DType dtype, double scale, std::int64_t zero_point) {
  return run(Op::quantize, {x}, {{"dtype", dtype}, {"scale", scale}, {"zero_point", zero_point}});
}
void check_one_step(const Tensor& found, const Tensor& expected) {
  REQUIRE(found.shape() == expected.shape());
  REQUIRE(found.dtype() == expected.dtype());
  Ints a = integers(found);
  Ints b = integers(expected);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::llabs(a[i] - b[i]) <= 1);
}

Attributes out(DType dtype, double scale, std::int64_t zero_point) {
  return {{"out_dtype", dtype}, {"out_scale", scale}, {"out_zero_point", zero_point}};
}
Attributes with(Attributes a, const Attributes& more) {
  for (const auto& [name, value] : more) a.set(name, value);
  return a;
}

const Attributes kX{{"x_scale", 0.05}, {"x_zero_point", std::int64_t{120}}};

TEST_CASE("qlinear, with every activation") {
  Tensor x = random_codes(DType::u8, {4, 19}, 1);
  Tensor w = random_codes(DType::i8, {6, 19}, 2);
  Tensor scales = f32({6}, {0.01f, 0.02f, 0.005f, 0.03f, 0.01f, 0.015f});
  Tensor bias = f32({6}, {1, -2, 0.5f, 0, 3, -1});
  Tensor wf = run(Op::dequantize, {w, scales}, {{"granularity", std::string("axis")}});
  for (const char* name : {"none", "relu", "clamp", "hardswish", "hardsigmoid", "leaky_relu", "gelu", "gelu_tanh",
                           "silu", "sigmoid", "tanh"}) {
    CAPTURE(name);
    Attributes act{{"activation", std::string(name)}, {"activation_min", 0.1}, {"activation_max", 6.0}};
    Tensor y = run(Op::qlinear, {x, w, scales, bias}, with(with(act, kX), out(DType::u8, 0.1, 50)));
    Tensor yf = run(Op::linear, {dequantized(x, 0.05, 120), wf, bias}, act);
    check_one_step(y, quantized(yf, DType::u8, 0.1, 50));
    Tensor f = run(Op::qlinear, {x, w, scales, bias}, with(with(act, kX), {{"out_dtype", DType::f32}}));
    check_near(f, floats(yf), 1e-4f);
  }
}

TEST_CASE("qlinear with operands for scale and zero points, and a residual") {
  Tensor x = random_codes(DType::i8, {3, 8}, 3);
  Tensor w = random_codes(DType::i8, {5, 8}, 4);
  Tensor scale = f32({1}, {0.02f});
  Tensor zero_points = i32({5}, {0, 1, -2, 3, -4});
  Tensor residual = random_codes(DType::u8, {3, 5}, 5);
  Attributes a = with(out(DType::i8, 0.1, -5), {{"residual_scale", 0.04}, {"residual_zero_point", std::int64_t{128}}});
  Tensor y = run(Op::qlinear, {x, w, scale, {}, residual, f32({}, {0.05f}), i32({}, {-7}), zero_points}, a);
  Tensor wf = run(Op::dequantize, {w, f32({5}, Floats(5, 0.02f)), zero_points}, {{"granularity", std::string("axis")}});
  Tensor yf =
      run(Op::linear, {dequantized(x, static_cast<double>(0.05f), -7), wf, {}, dequantized(residual, 0.04, 128)});
  check_one_step(y, quantized(yf, DType::i8, 0.1, -5));
  CHECK(code_of(Op::qlinear, {x, w, scale, {}, residual, f32({}, {0}), i32({}, {-7}), zero_points}, a) ==
        Code::invalid_data);
  CHECK(code_of(Op::qlinear, {x, w, scale, {}, residual, f32({}, {1}), i32({}, {128}), zero_points}, a) ==
        Code::invalid_data);
  CHECK(code_of(Op::qlinear, {x, w, scale}, out(DType::i8, 0.1, -5)) == Code::invalid_model);
  CHECK(code_of(Op::qlinear, {x, w, scale}, with(kX, out(DType::i8, 0.1, -500))) == Code::invalid_model);
  CHECK(code_of(Op::qlinear, {x, w, scale}, with({{"x_scale", 1.0}}, {{"out_dtype", DType::i8}})) ==
        Code::invalid_model);
}

TEST_CASE("the epilogue is the one written down") {
  Tensor x = u8({1, 3}, {10, 20, 255});
  Tensor w = i8({1, 3}, {100, -50, 7});
  float x_scale = 0.0371f, w_scale = 0.0113f, out_scale = 0.0972f, bias = 0.33f;
  Tensor y = run(Op::qlinear, {x, w, f32({1}, {w_scale}), f32({1}, {bias})},
                 with(out(DType::u8, static_cast<double>(out_scale), 9),
                      {{"x_scale", static_cast<double>(x_scale)}, {"x_zero_point", std::int64_t{30}}}));
  std::int32_t acc = (10 - 30) * 100 + (20 - 30) * -50 + (255 - 30) * 7;
  float b = bias / (x_scale * w_scale);
  float m = (x_scale * w_scale) / out_scale;
  CHECK(integers(y)[0] == requantize(acc, b, m, {-9.0f, 246.0f, 9}));
}

TEST_CASE("qconv in both layouts, where padding holds the zero point") {
  Tensor x = random_codes(DType::u8, {2, 4, 5, 6}, 6);
  Tensor w = random_codes(DType::i8, {6, 2, 3, 3}, 7);
  Tensor scales = f32({6}, {0.01f, 0.02f, 0.005f, 0.03f, 0.01f, 0.015f});
  Tensor bias = f32({6}, {1, -2, 0.5f, 0, 3, -1});
  Attributes geometry{{"stride", Ints{2, 1}},
                      {"pads", Ints{1, 0, 2, 1}},
                      {"dilation", Ints{1, 2}},
                      {"groups", std::int64_t{2}},
                      {"activation", std::string("relu")}};
  Attributes a = with(with(geometry, kX), out(DType::u8, 0.3, 10));
  Tensor wf = run(Op::dequantize, {w, scales}, {{"granularity", std::string("axis")}});
  Tensor yf = run(Op::conv, {dequantized(x, 0.05, 120), wf, bias}, geometry);
  Tensor y = run(Op::qconv, {x, w, scales, bias}, a);
  check_one_step(y, quantized(yf, DType::u8, 0.3, 10));
  a.set("channels_last", true);
  Tensor last = run(Op::qconv, {run(Op::permute, {x}, {{"perm", Ints{0, 2, 3, 1}}}), w, scales, bias}, a);
  CHECK(integers(run(Op::permute, {last}, {{"perm", Ints{0, 3, 1, 2}}})) == integers(y));
}

const Attributes kAB{
    {"a_scale", 0.05}, {"a_zero_point", std::int64_t{120}}, {"b_scale", 0.02}, {"b_zero_point", std::int64_t{-3}}};

TEST_CASE("qmatmul, qadd, qmul") {
  Tensor a = random_codes(DType::u8, {2, 3, 7}, 8);
  Tensor b = random_codes(DType::i8, {7, 4}, 9);
  Tensor af = dequantized(a, 0.05, 120);
  Tensor y = run(Op::qmatmul, {a, b}, with(kAB, out(DType::i8, 0.2, 4)));
  check_one_step(y, quantized(run(Op::matmul, {af, dequantized(b, 0.02, -3)}), DType::i8, 0.2, 4));
  check_near(run(Op::qmatmul, {a, b}, with(kAB, {{"out_dtype", DType::f32}})),
             floats(run(Op::matmul, {af, dequantized(b, 0.02, -3)})), 1e-4f);
  Tensor row = random_codes(DType::i8, {7}, 10);
  Tensor rf = dequantized(row, 0.02, -3);
  Attributes relu{{"activation", std::string("relu")}};
  check_one_step(run(Op::qadd, {a, row}, with(with(kAB, relu), out(DType::u8, 0.04, 60))),
                 quantized(run(Op::relu, {run(Op::add, {af, rf})}), DType::u8, 0.04, 60));
  check_one_step(run(Op::qmul, {a, row}, with(kAB, out(DType::i8, 0.1, 0))),
                 quantized(run(Op::mul, {af, rf}), DType::i8, 0.1, 0));
  CHECK(code_of(Op::qadd, {a, row}, with(with(kAB, {{"activation", std::string("gelu")}}), out(DType::u8, 1, 0))) ==
        Code::invalid_model);
  CHECK(code_of(Op::qadd, {af, row}, with(kAB, out(DType::u8, 1, 0))) == Code::invalid_model);
}

TEST_CASE("qavg_pool, requantize, lookup") {
  Tensor x = random_codes(DType::u8, {1, 3, 6, 5}, 11);
  Attributes pool{{"kernel", Ints{3, 2}}, {"stride", Ints{2, 2}}, {"pads", Ints{1, 1, 0, 1}}, {"ceil_mode", true}};
  Tensor xf = dequantized(x, 0.05, 120);
  check_one_step(run(Op::qavg_pool, {x}, with(with(pool, kX), out(DType::u8, 0.04, 100))),
                 quantized(run(Op::avg_pool, {xf}, pool), DType::u8, 0.04, 100));
  check_one_step(run(Op::requantize, {x}, with(kX, out(DType::i8, 0.06, 3))), quantized(xf, DType::i8, 0.06, 3));
  Tensor table = Tensor::make(DType::f32, {256}).value();
  for (std::size_t i = 0; i < 256; ++i) table.mutable_as<float>()[i] = static_cast<float>(i) * 0.5f;
  CHECK(floats(run(Op::lookup, {u8({2}, {0, 255}), table})) == Floats{0, 127.5f});
  CHECK(floats(run(Op::lookup, {i8({3}, {-128, 0, 127}), table})) == Floats{0, 64, 127.5f});
  CHECK(code_of(Op::lookup, {u8({1}, {0}), f32({2}, {0, 1})}) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
