#include <limits>

#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("unary functions") {
  Tensor x = f32({5}, {-2.5f, -0.5f, 0.0f, 0.5f, 3.5f});
  CHECK(floats(run(Op::abs, {x})) == Floats{2.5f, 0.5f, 0, 0.5f, 3.5f});
  CHECK(floats(run(Op::round, {x})) == Floats{-2, -0.0f, 0, 0, 4});
  CHECK(floats(run(Op::floor, {x})) == Floats{-3, -1, 0, 0, 3});
  CHECK(floats(run(Op::ceil, {x})) == Floats{-2, -0.0f, 0, 1, 4});
  CHECK(floats(run(Op::sign, {x})) == Floats{-1, -1, 0, 1, 1});
  CHECK(floats(run(Op::relu, {x})) == Floats{0, 0, 0, 0.5f, 3.5f});
  CHECK(floats(run(Op::hardswish, {x}))[4] == 3.5f);
  CHECK(floats(run(Op::leaky_relu, {x}, {{"alpha", 0.5}})) == Floats{-1.25f, -0.25f, 0, 0.5f, 3.5f});
  CHECK(floats(run(Op::thresholded_relu, {x}, {{"alpha", 0.5}})) == Floats{0, 0, 0, 0, 3.5f});
  CHECK(floats(run(Op::clamp, {x}, {{"min", -1.0}, {"max", 1.0}})) == Floats{-1, -0.5f, 0, 0.5f, 1});
  check_near(run(Op::elu, {x}, {{"alpha", 2.0}}), {-1.83583f, -0.786939f, 0, 0.5f, 3.5f}, 1e-5f);
  check_near(run(Op::celu, {x}, {{"alpha", 2.0}}), {-1.42699f, -0.442398f, 0, 0.5f, 3.5f}, 1e-5f);
  check_near(run(Op::selu, {x}), {-1.613782f, -0.691758f, 0, 0.525351f, 3.677454f}, 1e-5f);
  check_near(run(Op::mish, {x}), {-0.196816f, -0.220705f, 0, 0.375245f, 3.494111f}, 1e-4f);
  check_near(run(Op::softplus, {x}), {0.0788898f, 0.474077f, 0.693147f, 0.974077f, 3.52975f}, 1e-5f);
  check_near(run(Op::softsign, {x}), {-0.714286f, -0.333333f, 0, 0.333333f, 0.777778f}, 1e-5f);
  check_near(run(Op::gelu, {x}), {-0.0155242f, -0.154269f, 0, 0.345731f, 3.499186f}, 1e-5f);
  check_near(run(Op::gelu, {x}, {{"approximate", std::string("tanh")}}),
             {-0.0150843f, -0.154286f, 0, 0.345714f, 3.499246f}, 1e-4f);
}

TEST_CASE("unary ops on other types") {
  CHECK(integers(run(Op::abs, {i8({2}, {-128, -3})})) == Ints{-128, 3});
  CHECK(integers(run(Op::neg, {i64({2}, {5, -7})})) == Ints{-5, 7});
  CHECK(integers(run(Op::relu, {i8({2}, {-5, 5})})) == Ints{0, 5});
  CHECK(integers(run(Op::bitwise_not, {u8({2}, {0, 254})})) == Ints{255, 1});
  CHECK(integers(run(Op::logical_not, {boolean({2}, {0, 1})})) == Ints{1, 0});
  CHECK(integers(run(Op::clamp, {u8({3}, {0, 7, 200})}, {{"min", -5.0}, {"max", 100.5}})) == Ints{0, 7, 100});
  CHECK(integers(run(Op::is_nan, {f32({3}, {NAN, 1, kInfinity})})) == Ints{1, 0, 0});
  CHECK(integers(run(Op::is_inf, {f32({3}, {NAN, 1, -kInfinity})})) == Ints{0, 0, 1});
  Tensor half = run(Op::cast, {f32({2}, {1.5f, -2})}, {{"dtype", DType::f16}});
  CHECK(floats(run(Op::exp, {run(Op::relu, {half})}))[1] == 1.0f);
  CHECK(code_of(Op::exp, {i64({1}, {1})}) == Code::invalid_model);
  CHECK(code_of(Op::celu, {f32({1}, {1})}, {{"alpha", 0.0}}) == Code::invalid_model);
  CHECK(code_of(Op::clamp, {f32({1}, {1})}, {{"min", static_cast<double>(NAN)}}) == Code::invalid_model);
}

TEST_CASE("cast truncates and saturates floats and wraps integers") {
  Tensor x = f32({6}, {-1.9f, 1.9f, 300.0f, -300.0f, NAN, kInfinity});
  CHECK(integers(run(Op::cast, {x}, {{"dtype", DType::i8}})) == Ints{-1, 1, 127, -128, 0, 127});
  CHECK(integers(run(Op::cast, {x}, {{"dtype", DType::u4}})) == Ints{0, 1, 15, 0, 0, 15});
  CHECK(integers(run(Op::cast, {x}, {{"dtype", DType::i64}}))[5] == INT64_MAX);
  CHECK(integers(run(Op::cast, {x}, {{"dtype", DType::boolean}})) == Ints{1, 1, 1, 1, 1, 1});
  CHECK(integers(run(Op::cast, {i64({2}, {257, -1})}, {{"dtype", DType::u8}})) == Ints{1, 255});
  // 2^24 + 1 and the tie above 2^53 are rounded once.
  CHECK(floats(run(Op::cast, {i64({1}, {(std::int64_t{1} << 54) + (std::int64_t{1} << 30) + 1})},
                   {{"dtype", DType::f32}}))[0] == 0x1.000002p54f);
}

TEST_CASE("binary ops broadcast") {
  Tensor a = f32({2, 1, 2}, {1, 2, 3, 4});
  Tensor b = f32({3, 1}, {10, 20, 30});
  Tensor sum = run(Op::add, {a, b});
  CHECK(sum.shape() == Shape{2, 3, 2});
  CHECK(floats(sum) == Floats{11, 12, 21, 22, 31, 32, 13, 14, 23, 24, 33, 34});
  CHECK(floats(run(Op::sub, {b, f32({}, {1})})) == Floats{9, 19, 29});
  CHECK(floats(run(Op::pow, {f32({2}, {3, 2}), f32({2}, {2, -1})})) == Floats{9, 0.5f});
  CHECK(run(Op::mul, {f32({0, 1}, {}), f32({1, 3}, {1, 2, 3})}).shape() == Shape{0, 3});
  CHECK(code_of(Op::add, {f32({2}, {1, 2}), f32({3}, {1, 2, 3})}) == Code::invalid_model);
  CHECK(code_of(Op::add, {f32({1}, {1}), i64({1}, {1})}) == Code::invalid_model);
}

TEST_CASE("integer division and remainders") {
  Tensor a = i32({4}, {7, -7, 7, -7});
  Tensor b = i32({4}, {3, 3, -3, -3});
  CHECK(integers(run(Op::div, {a, b})) == Ints{2, -2, -2, 2});
  CHECK(integers(run(Op::mod, {a, b})) == Ints{1, 2, -2, -1});
  CHECK(integers(run(Op::mod, {a, b}, {{"fmod", true}})) == Ints{1, -1, 1, -1});
  CHECK(floats(run(Op::mod, {f32({1}, {-7}), f32({1}, {3})})) == Floats{2});
  CHECK(code_of(Op::div, {a, i32({1}, {0})}) == Code::invalid_data);
  CHECK(code_of(Op::mod, {a, i32({1}, {0})}) == Code::invalid_data);
  CHECK(integers(run(Op::div, {i64({1}, {INT64_MIN}), i64({1}, {-1})})) == Ints{INT64_MIN});
  Tensor large = tensor_of<std::uint64_t>(DType::u64, {1}, {~std::uint64_t{0}});
  Tensor two = tensor_of<std::uint64_t>(DType::u64, {1}, {2});
  CHECK(integers(run(Op::div, {large, two})) == Ints{INT64_MAX});
  CHECK(integers(run(Op::greater, {large, two})) == Ints{1});
  CHECK(integers(run(Op::maximum, {large, two})) == Ints{-1});
}

TEST_CASE("comparisons, logic, choice") {
  Tensor a = f32({3}, {1, NAN, 3});
  Tensor b = f32({3}, {2, 2, 3});
  CHECK(integers(run(Op::less, {a, b})) == Ints{1, 0, 0});
  CHECK(integers(run(Op::greater_equal, {a, b})) == Ints{0, 0, 1});
  CHECK(integers(run(Op::not_equal, {a, b})) == Ints{1, 1, 0});
  CHECK(std::isnan(floats(run(Op::maximum, {a, b}))[1]));
  CHECK(std::isnan(floats(run(Op::minimum, {b, a}))[1]));
  Tensor p = boolean({2}, {0, 1});
  CHECK(integers(run(Op::logical_xor, {p, boolean({1}, {1})})) == Ints{1, 0});
  CHECK(integers(run(Op::bitwise_and, {u8({1}, {12}), u8({1}, {10})})) == Ints{8});
  Tensor chosen = run(Op::where, {p, i64({2, 1}, {1, 2}), i64({1}, {9})});
  CHECK(chosen.shape() == Shape{2, 2});
  CHECK(integers(chosen) == Ints{9, 1, 9, 2});
  CHECK(floats(run(Op::prelu, {f32({2, 2}, {-1, 2, -3, -4}), f32({2}, {0.5f, 2})})) == Floats{-0.5f, 2, -1.5f, -8});
  CHECK(code_of(Op::prelu, {f32({1}, {1}), f32({2}, {1, 2})}) == Code::invalid_model);
}

TEST_CASE("relu, clamp and pad of quantized values look at the zero point") {
  Graph g;
  Value* x = g.constant(f32({4}, {-1, 0, 1, 2}));
  Value* q = (*g.create(Op::quantize, {x}, {{"dtype", DType::u8}, {"scale", 0.5}, {"zero_point", std::int64_t{10}}}))
                 ->output();
  Value* relu = (*g.create(Op::relu, {q}))->output();
  Value* clamp = (*g.create(Op::clamp, {q}, {{"min", -0.5}, {"max", 1.0}}))->output();
  Value* pad = (*g.create(Op::pad, {q}, {{"pads", Ints{1, 0}}, {"value", 3.0}}))->output();
  CHECK(relu->type().quantization == q->type().quantization);
  REQUIRE(g.output({relu, clamp, pad}, {"a", "b", "c"}).ok());
  std::unique_ptr<Executable> run_it = ReferenceExecutor().prepare(g).value();
  std::vector<Tensor> out = run_it->run({}).value();
  CHECK(integers(out[0]) == Ints{10, 10, 12, 14});
  CHECK(integers(out[1]) == Ints{9, 10, 12, 12});
  CHECK(integers(out[2]) == Ints{16, 8, 10, 12, 14});
  // Arithmetic needs a dequantize first.
  CHECK(!g.create(Op::add, {q, q}).ok());
}

}  // namespace
}  // namespace aoq
