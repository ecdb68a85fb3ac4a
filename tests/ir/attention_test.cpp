// attention against the ops that it stands for, and layer norms that write codes.
#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

struct Heads {
  Tensor q = wave({2, 5, 3, 8}, 0.37f, 2.0f);
  Tensor k = wave({2, 7, 3, 8}, 0.53f, 2.0f);
  Tensor v = wave({2, 7, 3, 6}, 0.71f);
  Tensor mask = wave({2, 1, 5, 7}, 1.3f);
};

Tensor permuted(const Tensor& x, Ints perm) {
  return run(Op::permute, {x}, {{"perm", std::move(perm)}});
}

// The separate ops, with the result as attention writes it.
Tensor in_steps(const Heads& h, float divisor) {
  Tensor scores = run(Op::matmul, {permuted(h.q, {0, 2, 1, 3}), permuted(h.k, {0, 2, 3, 1})});
  scores = run(Op::add, {run(Op::div, {scores, f32({}, {divisor})}), h.mask});
  Tensor y = run(Op::matmul, {run(Op::softmax, {scores}), permuted(h.v, {0, 2, 1, 3})});
  return permuted(y, {0, 2, 1, 3});
}

Attributes with_divisor(float divisor, const char* arithmetic) {
  return {{"divisor", static_cast<double>(divisor)}, {"arithmetic", std::string(arithmetic)}};
}

TEST_CASE("attention in f32 rounds as the separate ops do") {
  Heads h;
  Tensor y = run(Op::attention, {h.q, h.k, h.v, h.mask}, with_divisor(2.83f, "f32"));
  CHECK(y.shape() == Shape{2, 5, 3, 6});
  CHECK(floats(y) == floats(in_steps(h, 2.83f)));
}

TEST_CASE("attention in int8 is near") {
  Heads h;
  Tensor y = run(Op::attention, {h.q, h.k, h.v, h.mask}, with_divisor(2.83f, "int8"));
  check_near(y, floats(in_steps(h, 2.83f)), 0.03f);
}

TEST_CASE("what all keys share changes no result in int8") {
  Heads h;
  Tensor shifted = run(Op::add, {h.k, f32({8}, Floats(8, 64.0f))});
  Tensor y = run(Op::attention, {h.q, shifted, h.v, h.mask}, with_divisor(2.83f, "int8"));
  check_near(y, floats(in_steps(h, 2.83f)), 0.03f);
}

TEST_CASE("one column that the mask leaves gets all the weight") {
  Heads h;
  Floats only(7, -std::numeric_limits<float>::infinity());
  only[4] = 0.0f;
  for (const char* arithmetic : {"f32", "int8"}) {
    Tensor y = run(Op::attention, {h.q, h.k, h.v, f32({7}, only)}, with_divisor(1.0f, arithmetic));
    Tensor row = run(Op::slice, {h.v},
                     {{"axes", Ints{1}},
                      {"starts", std::vector<Dim>{Dim(4)}},
                      {"ends", std::vector<Dim>{Dim(5)}},
                      {"steps", Ints{1}}});
    check_near(y, floats(run(Op::add, {row, f32({5, 1, 1}, Floats(5, 0.0f))})), 0.005f);
  }
}

TEST_CASE("attention as codes is what quantize makes of its numbers") {
  Heads h;
  for (const char* arithmetic : {"f32", "int8"}) {
    Attributes a = with_divisor(2.0f, arithmetic);
    Tensor y = run(Op::attention, {h.q, h.k, h.v}, a);
    a.set("out_dtype", DType::u8);
    a.set("out_scale", 0.01);
    a.set("out_zero_point", std::int64_t{100});
    Tensor codes = run(Op::attention, {h.q, h.k, h.v}, a);
    CHECK(integers(codes) ==
          integers(run(Op::quantize, {y}, {{"dtype", DType::u8}, {"scale", 0.01}, {"zero_point", std::int64_t{100}}})));
  }
}

TEST_CASE("a result without elements takes no time, however many scores it stands for") {
  constexpr std::int64_t kMany = std::int64_t{1} << 40;
  const auto empty = [](Shape shape) { return Tensor::make(DType::f32, std::move(shape)).value(); };
  for (const char* arithmetic : {"f32", "int8"}) {
    const Attributes a{{"arithmetic", std::string(arithmetic)}};
    const Tensor lines = empty({1, kMany, 1, 0});
    CHECK(run(Op::attention, {lines, lines, lines, f32({1}, {0})}, a).shape() == Shape{1, kMany, 1, 0});
    const Tensor no_heads = empty({1, kMany / 1024, 0, kMany / 1024});
    CHECK(run(Op::attention, {no_heads, no_heads, no_heads}, a).shape() == no_heads.shape());
  }
}

TEST_CASE("wrong attention is refused") {
  Heads h;
  CHECK(code_of(Op::attention, {h.q, h.k, h.v}, {{"arithmetic", std::string("int4")}}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.k, h.v}, {{"divisor", INFINITY}}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.k, h.v}, {{"out_scale", 0.1}}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.k, h.v}, {{"out_dtype", DType::u8}}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.v, h.v}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.k, h.q}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.k, h.v, wave({3, 1, 1, 7}, 1)}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {h.q, h.k, h.v, wave({1, 2, 3, 5, 7}, 1)}) == Code::invalid_model);
  CHECK(code_of(Op::attention, {wave({5, 3, 8}, 1), wave({7, 3, 8}, 1), wave({7, 3, 6}, 1)}) == Code::invalid_model);
}

TEST_CASE("qlayer_norm is layer_norm and quantize") {
  Tensor x = wave({3, 2, 20}, 0.9f, 4.0f), weight = wave({20}, 1.7f), bias = wave({20}, 2.3f);
  Tensor y = run(Op::layer_norm, {x, weight, bias}, {{"epsilon", 1e-3}});
  Tensor codes =
      run(Op::qlayer_norm, {x, weight, bias},
          {{"epsilon", 1e-3}, {"out_dtype", DType::i8}, {"out_scale", 0.02}, {"out_zero_point", std::int64_t{-9}}});
  CHECK(integers(codes) ==
        integers(run(Op::quantize, {y}, {{"dtype", DType::i8}, {"scale", 0.02}, {"zero_point", std::int64_t{-9}}})));
  CHECK(code_of(Op::qlayer_norm, {x, weight, bias}, {{"out_scale", 0.0}}) == Code::invalid_model);
  CHECK(code_of(Op::qlayer_norm, {x, weight, bias}, {{"out_dtype", DType::f32}, {"out_scale", 0.1}}) ==
        Code::invalid_model);
  CHECK(code_of(Op::qlayer_norm, {x, bias, weight}, {{"axis", std::int64_t{3}}, {"out_scale", 0.1}}) ==
        Code::invalid_model);
}

}  // namespace
}  // namespace aoq
