#include "ir/epilogue.h"
#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

Attributes static_qparams(DType dtype, double scale, std::int64_t zero_point) {
  return {{"dtype", dtype}, {"scale", scale}, {"zero_point", zero_point}};
}

TEST_CASE("quantize rounds half to even, adds the zero point and saturates") {
  Tensor x = f32({7}, {-1, -0.25f, 0.25f, 0.75f, 100, -100, NAN});
  CHECK(integers(run(Op::quantize, {x}, static_qparams(DType::u8, 0.5, 3))) == Ints{1, 3, 3, 5, 203, 0, 0});
  CHECK(integers(run(Op::quantize, {x}, static_qparams(DType::i4, 0.5, 0))) == Ints{-2, 0, 0, 2, 7, -8, -8});
  // The reciprocal, not a division: see C.5 of the semantics, 127.5 goes to 128.
  CHECK(integers(run(Op::quantize, {f32({1}, {0.273939937f})},
                     static_qparams(DType::u8, static_cast<double>(0.00214854861f), 0))) == Ints{128});
  Tensor f8 = run(Op::quantize, {f32({3}, {1, 1000, -1000})}, {{"dtype", DType::f8_e4m3fn}, {"scale", 0.5}});
  CHECK(floats(f8) == Floats{2, 448, -448});
}

TEST_CASE("every granularity, there and back") {
  Tensor x = f32({2, 4}, {1, 2, 3, 4, 10, 20, 30, 40});
  struct Case {
    const char* granularity;
    std::int64_t axis, group;
    Shape shape;
    Floats scales;
    std::vector<std::int32_t> zero_points;
    Ints codes;
  };
  const Case cases[] = {
      {"tensor", 0, 0, {}, {2}, {1}, {1, 2, 3, 3, 6, 11, 16, 21}},
      {"axis", 0, 0, {2}, {1, 10}, {0, 5}, {1, 2, 3, 4, 6, 7, 8, 9}},
      {"axis", -1, 0, {4}, {1, 2, 3, 4}, {0, 0, 0, 1}, {1, 1, 1, 2, 10, 10, 10, 11}},
      {"group", 1, 2, {2, 2}, {1, 2, 10, 20}, {0, 0, 0, 1}, {1, 2, 2, 2, 1, 2, 3, 3}},
      {"group", 1, 3, {2, 2}, {1, 2, 10, 20}, {0, 0, 0, 1}, {1, 2, 3, 2, 1, 2, 3, 3}},
      {"group", 0, 2, {1, 4}, {1, 2, 3, 4}, {0, 0, 0, 0}, {1, 1, 1, 1, 10, 10, 10, 10}},
      {"token", 0, 0, {2, 1}, {1, 10}, {1, 0}, {2, 3, 4, 5, 1, 2, 3, 4}},
  };
  for (const Case& k : cases) {
    CAPTURE(k.granularity);
    Attributes a{{"granularity", std::string(k.granularity)}, {"axis", k.axis}, {"group", k.group}};
    Attributes q = a;
    q.set("dtype", DType::u8);
    Tensor scales = f32(k.shape, k.scales);
    Tensor zero_points = i32(k.shape, k.zero_points);
    Tensor codes = run(Op::quantize, {x, scales, zero_points}, q);
    CHECK(integers(codes) == k.codes);
    Tensor back = run(Op::dequantize, {codes, scales, zero_points}, a);
    Floats zeroes = floats(run(Op::dequantize, {run(Op::quantize, {x, scales}, q), scales}, a));
    CHECK(zeroes.size() == 8);
    for (std::size_t i = 0; i < 8; ++i) {
      // Within half a step of the largest scale.
      CHECK(std::fabs(back.as<float>()[i] - x.as<float>()[i]) <= 10.0f);
    }
  }
}

TEST_CASE("an immediate quantization is all that dequantize needs") {
  Graph g;
  Value* x = g.constant(f32({2}, {1, -1}));
  Value* q = (*g.create(Op::quantize, {x}, static_qparams(DType::i8, 0.25, -3)))->output();
  CHECK(to_string(q->type()) == "i8[2]{scale=0x1p-2, zero_point=-3}");
  Value* d = (*g.create(Op::dequantize, {q}))->output();
  Value* same = (*g.create(Op::dequantize, {q}, {{"scale", 0.25}, {"zero_point", std::int64_t{-3}}}))->output();
  CHECK(!g.create(Op::dequantize, {q}, {{"scale", 0.5}, {"zero_point", std::int64_t{-3}}}).ok());
  CHECK(!g.create(Op::dequantize, {x}).ok());
  REQUIRE(g.output({q, d, same}, {"q", "d", "same"}).ok());
  std::vector<Tensor> out = ReferenceExecutor().prepare(g).value()->run({}).value();
  CHECK(integers(out[0]) == Ints{1, -7});
  CHECK(floats(out[1]) == Floats{1, -1});
  CHECK(floats(out[2]) == Floats{1, -1});
}

TEST_CASE("bad scales and zero points are refused") {
  Tensor x = f32({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  for (double scale : {0.0, -1.0, static_cast<double>(INFINITY), static_cast<double>(NAN), 1e-45}) {
    CHECK(code_of(Op::quantize, {x}, static_qparams(DType::u8, scale, 0)) == Code::invalid_model);
  }
  CHECK(code_of(Op::quantize, {x}, static_qparams(DType::u8, 1, 256)) == Code::invalid_model);
  CHECK(code_of(Op::quantize, {x}, static_qparams(DType::i32, 1, 0)) == Code::invalid_model);
  CHECK(code_of(Op::quantize, {x}, {{"dtype", DType::u8}}) == Code::invalid_model);
  CHECK(code_of(Op::quantize, {x, f32({}, {0})}, {{"dtype", DType::u8}}) == Code::invalid_data);
  CHECK(code_of(Op::quantize, {x, f32({}, {1}), i32({}, {-1})}, {{"dtype", DType::u8}}) == Code::invalid_data);
  Attributes axis{{"dtype", DType::u8}, {"granularity", std::string("axis")}};
  CHECK(code_of(Op::quantize, {x, f32({4}, {1, 1, 1, 1})}, axis) == Code::invalid_model);
  axis.set("axis", std::int64_t{2});
  CHECK(code_of(Op::quantize, {x, f32({2}, {1, 1})}, axis) == Code::invalid_model);
  Attributes group{{"dtype", DType::u8}, {"granularity", std::string("group")}, {"group", std::int64_t{0}}};
  CHECK(code_of(Op::quantize, {x, f32({2}, {1, 1})}, group) == Code::invalid_model);
}

TEST_CASE("dequantize of wide codes does not overflow") {
  Tensor x = i32({2}, {INT32_MIN, INT32_MAX});
  Attributes a{{"scale", 1.0}, {"zero_point", std::int64_t{INT32_MAX}}};
  CHECK(floats(run(Op::dequantize, {x}, a)) == Floats{-4294967296.0f, 0});
}

TEST_CASE("choose_qparams") {
  auto choose = [](const Tensor& x, Attributes a) { return run_op(Op::choose_qparams, {x}, std::move(a)).value(); };
  Tensor x = f32({2, 2}, {-1, 0.5f, 2, 1.55f});
  std::vector<Tensor> r = choose(x, {{"dtype", DType::u8}});
  CHECK(floats(r[0]) == Floats{3.0f / 255.0f});
  CHECK(integers(r[1]) == Ints{85});
  r = choose(x, {{"dtype", DType::i8}, {"symmetric", true}});
  CHECK(floats(r[0]) == Floats{2.0f / 127.5f});
  CHECK(integers(r[1]) == Ints{0});
  r = choose(x, {{"dtype", DType::u8}, {"reduce_range", true}});
  CHECK(floats(r[0]) == Floats{3.0f / 127.0f});
  r = choose(x, {{"dtype", DType::u8}, {"granularity", std::string("token")}});
  CHECK(r[0].shape() == Shape{2, 1});
  CHECK(floats(r[0]) == Floats{1.5f / 255.0f, 2.0f / 255.0f});
  CHECK(integers(r[1]) == Ints{170, 0});
  r = choose(f32({1}, {0}), {{"dtype", DType::u8}});
  CHECK(floats(r[0]) == Floats{0x1p-23f});
  CHECK(code_of(Op::choose_qparams, {f32({1}, {NAN})}, {{"dtype", DType::u8}}) == Code::invalid_data);
  CHECK(code_of(Op::choose_qparams, {x}, {{"dtype", DType::f32}}) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
