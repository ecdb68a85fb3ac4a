// fake_quantize and dequantize_codebook: what linear layers of small floats and codebooks are made of.
#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

Attributes fake(DType dtype, const char* granularity = "tensor", std::int64_t group = 0) {
  return {{"dtype", dtype}, {"granularity", std::string(granularity)}, {"group", group}};
}

TEST_CASE("fake_quantize with a given scale rounds half to even, saturates and keeps the sign of zero") {
  const Tensor one = f32({1}, {1});
  const Tensor x = f32({9}, {0.25f, 0.75f, 1.25f, 2.5f, -5, 100, -100, INFINITY, -0.0f});
  const Tensor y = run(Op::fake_quantize, {x, one}, fake(DType::f4_e2m1));
  CHECK(floats(y) == Floats{0, 1, 1, 2, -4, 6, -6, 6, 0});
  CHECK(std::signbit(y.as<float>()[8]));
  CHECK(floats(run(Op::fake_quantize, {f32({3}, {17, 1000, 0x1p-10f}), one}, fake(DType::f8_e4m3fn))) ==
        Floats{16, 448, 0});
  CHECK(floats(run(Op::fake_quantize, {f32({2}, {17, 1000}), f32({}, {4})}, fake(DType::f8_e4m3fn))) ==
        Floats{16, 1024});
  // A format without -0.
  CHECK(!std::signbit(run(Op::fake_quantize, {f32({1}, {-0.0f}), one}, fake(DType::f8_e4m3fnuz)).as<float>()[0]));
  CHECK(std::isnan(run(Op::fake_quantize, {f32({1}, {NAN}), one}, fake(DType::f8_e5m2)).as<float>()[0]));
}

TEST_CASE("fake_quantize chooses its scale by tensor, row and stretch") {
  const Tensor x = f32({2, 4}, {6, 1, 12, 2, 0.6f, 0.1f, 60, -60});
  // By 10: 0.6, 0.1, 1.2 and 0.2 become 0.5, 0, 1 and 0.
  CHECK(floats(run(Op::fake_quantize, {x}, fake(DType::f4_e2m1))) == Floats{5, 0, 10, 0, 0, 0, 60, -60});
  CHECK(floats(run(Op::fake_quantize, {x}, fake(DType::f4_e2m1, "token"))) == Floats{6, 1, 12, 2, 0, 0, 60, -60});
  const Tensor groups = run(Op::fake_quantize, {x}, fake(DType::f4_e2m1, "group", 2));
  CHECK(floats(groups) == Floats{6, 1, 12, 2, 0.6f, 0.1f, 60, -60});
}

TEST_CASE("fake_quantize keeps its scale within bounds") {
  Attributes a = fake(DType::f4_e2m1);
  a.set("amax_min", 6.0);
  a.set("amax_max", 12.0);
  CHECK(floats(run(Op::fake_quantize, {f32({2}, {0.2f, 0.3f})}, a)) == Floats{0, 0.5f});
  CHECK(floats(run(Op::fake_quantize, {f32({2}, {100, 2})}, a)) == Floats{12, 2});
  // Zeros have the scale of the least magnitude, and stay.
  CHECK(floats(run(Op::fake_quantize, {f32({2}, {0, 0})}, fake(DType::f8_e4m3fn))) == Floats{0, 0});
  CHECK(run(Op::fake_quantize, {f32({0, 4}, {})}, fake(DType::f8_e4m3fn, "token")).element_count() == 0);
}

TEST_CASE("fake_quantize refuses what it cannot mean") {
  const Tensor x = f32({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    CHECK(code_of(Op::fake_quantize, {f32({2}, {1, bad})}, fake(DType::f8_e4m3fn)) == Code::invalid_data);
  }
  for (const float scale : {0.0f, -1.0f, NAN, INFINITY}) {
    CHECK(code_of(Op::fake_quantize, {x, f32({1}, {scale})}, fake(DType::f8_e4m3fn)) == Code::invalid_data);
  }
  CHECK(code_of(Op::fake_quantize, {x, f32({2}, {1, 1})}, fake(DType::f8_e4m3fn)) == Code::invalid_model);
  CHECK(code_of(Op::fake_quantize, {x}, fake(DType::i8)) == Code::invalid_model);
  CHECK(code_of(Op::fake_quantize, {x}, fake(DType::f16)) == Code::invalid_model);
  CHECK(code_of(Op::fake_quantize, {x}, fake(DType::f8_e4m3fn, "axis")) == Code::invalid_model);
  CHECK(code_of(Op::fake_quantize, {x}, fake(DType::f8_e4m3fn, "group", 3)) == Code::invalid_model);
  CHECK(code_of(Op::fake_quantize, {x}, fake(DType::f8_e4m3fn, "group", 0)) == Code::invalid_model);
  CHECK(code_of(Op::fake_quantize, {f32({}, {1})}, fake(DType::f8_e4m3fn, "token")) == Code::invalid_model);
  Attributes order = fake(DType::f8_e4m3fn);
  order.set("amax_min", 2.0);
  order.set("amax_max", 1.0);
  CHECK(code_of(Op::fake_quantize, {x}, order) == Code::invalid_model);
}

TEST_CASE("dequantize_codebook looks blocks up and scales their parts") {
  // Entries of one row and two columns; a scale for each row and half of the columns.
  const Tensor entries = f32({3, 1, 2}, {1, 2, 10, 20, -1, 0});
  const Tensor scales = f32({2, 2, 1}, {1, 2, 3, 4});
  const Tensor y = run(Op::dequantize_codebook, {u8({2, 2}, {0, 1, 2, 0}), entries, scales});
  CHECK(y.shape() == Shape{2, 4});
  CHECK(floats(y) == Floats{1, 2, 20, 40, -3, 0, 4, 8});
  // Entries of two rows.
  const Tensor tall = f32({2, 2, 1}, {1, 2, 3, 4});
  CHECK(floats(run(Op::dequantize_codebook, {u8({1, 2}, {1, 0}), tall, f32({1, 1, 1}, {2})})) == Floats{6, 2, 8, 4});
}

TEST_CASE("dequantize_codebook refuses codes without an entry and parts that do not fit") {
  const Tensor entries = f32({2, 1, 1}, {1, 2}), one = f32({1, 1, 1}, {1});
  CHECK(code_of(Op::dequantize_codebook, {u8({1, 2}, {0, 2}), entries, one}) == Code::invalid_data);
  CHECK(code_of(Op::dequantize_codebook, {i8({1, 2}, {0, 1}), entries, one}) == Code::invalid_model);
  CHECK(code_of(Op::dequantize_codebook, {u8({1, 2}, {0, 1}), entries, f32({1, 3, 1}, {1, 1, 1})}) ==
        Code::invalid_model);
  CHECK(code_of(Op::dequantize_codebook, {u8({1, 2}, {0, 1}), entries, f32({1, 1, 2}, {1, 1})}) == Code::invalid_model);
  CHECK(code_of(Op::dequantize_codebook, {u8({2}, {0, 1}), entries, one}) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
