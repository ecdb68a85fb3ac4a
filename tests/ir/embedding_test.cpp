#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

const Attributes kSum{{"mode", std::string("sum")}};
const Attributes kMax{{"mode", std::string("max")}};

Tensor table() {
  return f32({3, 2}, {1, -10, 2, -20, 4, -40});
}

TEST_CASE("embedding_bag adds, averages and takes the largest of the rows of a bag") {
  const Tensor indices = i64({2, 2}, {0, 2, 1, 1});
  CHECK(floats(run(Op::embedding_bag, {table(), indices}, kSum)) == Floats{5, -50, 4, -40});
  CHECK(floats(run(Op::embedding_bag, {table(), indices})) == Floats{2.5f, -25, 2, -20});
  CHECK(floats(run(Op::embedding_bag, {table(), indices}, kMax)) == Floats{4, -10, 2, -20});
}

TEST_CASE("embedding_bag cuts indices at offsets; an empty bag gives 0") {
  const Tensor indices = i32({4}, {2, 0, 1, -1});
  const Tensor offsets = i64({3}, {0, 1, 1});
  CHECK(floats(run(Op::embedding_bag, {table(), indices, offsets}, kSum)) == Floats{4, -40, 0, 0, 7, -70});
  CHECK(floats(run(Op::embedding_bag, {table(), indices, offsets}, kMax)) == Floats{4, -40, 0, 0, 4, -10});
  Attributes last = kSum;
  last.set("include_last_offset", true);
  CHECK(floats(run(Op::embedding_bag, {table(), indices, i32({3}, {0, 1, 3})}, last)) == Floats{4, -40, 3, -30});
}

TEST_CASE("embedding_bag checks offsets and indices") {
  const Tensor indices = i64({2}, {0, 1});
  CHECK(code_of(Op::embedding_bag, {table(), indices}, kSum) == Code::invalid_model);
  CHECK(code_of(Op::embedding_bag, {table(), indices, i64({1}, {1})}, kSum) == Code::invalid_data);
  CHECK(code_of(Op::embedding_bag, {table(), indices, i64({2}, {0, 3})}, kSum) == Code::invalid_data);
  CHECK(code_of(Op::embedding_bag, {table(), indices, i64({3}, {0, 2, 1})}, kSum) == Code::invalid_data);
  CHECK(code_of(Op::embedding_bag, {table(), i64({1}, {3}), i64({1}, {0})}, kSum) == Code::invalid_data);
  CHECK(code_of(Op::embedding_bag, {table(), i64({1, 1}, {0})}, {{"mode", std::string("min")}}) == Code::invalid_model);
  CHECK(code_of(Op::embedding_bag, {table(), i64({1, 1}, {0})}, {{"include_last_offset", true}}) ==
        Code::invalid_model);
}

const Attributes kBytes{{"columns", std::int64_t{2}}};
const Attributes kNibbles{{"columns", std::int64_t{3}}, {"bits", std::int64_t{4}}};

Tensor scale() {
  return f32({2}, {0.5f, 2});
}
Tensor bias() {
  return f32({2}, {-1, 10});
}

TEST_CASE("dequantize_rows multiplies by the row's scale and adds its bias") {
  const Tensor bytes = u8({2, 2}, {0, 255, 3, 4});
  CHECK(floats(run(Op::dequantize_rows, {bytes, scale(), bias()}, kBytes)) == Floats{-1, 126.5f, 16, 18});
  // The even element lies in the low half of the byte.
  const Tensor nibbles = u8({2, 2}, {0x21, 0x03, 0xf0, 0x0e});
  CHECK(floats(run(Op::dequantize_rows, {nibbles, scale(), bias()}, kNibbles)) == Floats{-0.5f, 0, 0.5f, 10, 40, 38});
}

TEST_CASE("a row's value is rounded once") {
  // 3 * 0.1f is no float: the sum with the bias must be of the exact product.
  const Floats found = floats(
      run(Op::dequantize_rows, {u8({1, 1}, {3}), f32({1}, {0.1f}), f32({1}, {-0.3f})}, {{"columns", std::int64_t{1}}}));
  CHECK(found[0] == std::fma(3.0f, 0.1f, -0.3f));
  CHECK(found[0] != 3.0f * 0.1f - 0.3f);
}

TEST_CASE("qembedding picks, adds and averages quantized rows") {
  const Tensor codes = u8({2, 2}, {0, 255, 3, 4});
  const Operands one{codes, scale(), bias(), i64({3}, {1, 0, -1})};
  CHECK(floats(run(Op::qembedding, one, kBytes)) == Floats{16, 18, -1, 126.5f, 16, 18});
  Attributes sum = kBytes;
  sum.set("mode", std::string("sum"));
  const Operands bags{codes, scale(), bias(), i64({3}, {1, 0, 1}), i64({3}, {0, 2, 2})};
  CHECK(floats(run(Op::qembedding, bags, sum)) == Floats{15, 144.5f, 0, 0, 16, 18});
  Attributes mean = kBytes;
  mean.set("mode", std::string("mean"));
  CHECK(floats(run(Op::qembedding, {codes, scale(), bias(), i64({1, 2}, {1, 0})}, mean)) == Floats{7.5f, 72.25f});
  const Tensor nibbles = u8({2, 2}, {0x21, 0x03, 0xf0, 0x0e});
  CHECK(floats(run(Op::qembedding, {nibbles, scale(), bias(), i32({}, {1})}, kNibbles)) == Floats{10, 40, 38});
}

TEST_CASE("qembedding checks its table and indices") {
  const Tensor codes = u8({2, 2}, {0, 255, 3, 4}), index = i64({1}, {0});
  CHECK(code_of(Op::qembedding, {codes, scale(), bias(), i64({1}, {2})}, kBytes) == Code::invalid_data);
  CHECK(code_of(Op::qembedding, {codes, scale(), bias(), index}, {{"columns", std::int64_t{3}}}) ==
        Code::invalid_model);
  CHECK(code_of(Op::qembedding, {codes, f32({1}, {1}), bias(), index}, kBytes) == Code::invalid_model);
  CHECK(code_of(Op::qembedding, {codes, scale(), bias(), index, i64({1}, {0})}, kBytes) == Code::invalid_model);
  Attributes wide = kBytes;
  wide.set("bits", std::int64_t{2});
  CHECK(code_of(Op::qembedding, {codes, scale(), bias(), index}, wide) == Code::invalid_model);
  Attributes largest = kBytes;
  largest.set("mode", std::string("max"));
  CHECK(code_of(Op::qembedding, {codes, scale(), bias(), i64({1, 1}, {0})}, largest) == Code::invalid_model);
}

Tensor narrow(DType dtype, Shape shape, const Ints& codes) {
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  for (std::size_t i = 0; i < codes.size(); ++i) {
    store_integer(dtype, t.mutable_bytes().data(), static_cast<std::int64_t>(i), codes[i]);
  }
  return t;
}

Tensor rounded_to(DType dtype, Shape shape, const Floats& values) {
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  dtype_info(dtype).from_float(values, t.mutable_bytes().data(), 0);
  return t;
}

Attributes groups_of(std::int64_t group, std::int64_t columns) {
  return {{"group", group}, {"columns", columns}};
}

TEST_CASE("qembedding looks up rows of narrow codes, a scale and zero point for each group") {
  const Tensor codes = narrow(DType::i4, {2, 3}, {-8, 7, 1, 0, 2, -3});
  const Tensor scales = f32({2, 2}, {0.5f, 2, 4, 0.25f});
  const Tensor index = i64({3}, {1, 0, -1}), none = i8({1, 1}, {0});
  CHECK(floats(run(Op::qembedding, {codes, scales, none, index}, groups_of(2, 3))) ==
        Floats{0, 8, -0.75f, -4, 3.5f, 2, 0, 8, -0.75f});
  const Tensor zeros = i8({2, 2}, {-1, 1, 2, 0});
  CHECK(floats(run(Op::qembedding, {codes, scales, zeros, i64({1}, {0})}, groups_of(2, 3))) == Floats{-3.5f, 4, 0});
  const Tensor unsigned_codes = narrow(DType::u4, {1, 2}, {0, 15});
  CHECK(floats(run(Op::qembedding, {unsigned_codes, f32({1, 1}, {0.5f}), u8({1, 1}, {8}), i64({1}, {0})},
                   groups_of(2, 2))) == Floats{-4, 3.5f});
  Attributes sum = groups_of(2, 3);
  sum.set("mode", std::string("sum"));
  CHECK(floats(run(Op::qembedding, {codes, scales, none, i64({1, 2}, {0, 1})}, sum)) == Floats{-4, 11.5f, 1.25f});
}

TEST_CASE("with float zero points product and sum are rounded to their type") {
  const Tensor codes = narrow(DType::u4, {1, 1}, {15}), index = i64({1}, {0});
  const float scale = 0.10009765625f, zero = 3.015625f;  // numbers of bf16
  const auto round = [](float v) {
    const Tensor t = rounded_to(DType::bf16, {1}, {v});
    float back = 0;
    dtype_info(DType::bf16).to_float(t.bytes().data(), 0, {&back, 1});
    return back;
  };
  const Floats narrow_sum = floats(run(
      Op::qembedding, {codes, rounded_to(DType::bf16, {1, 1}, {scale}), rounded_to(DType::bf16, {1, 1}, {zero}), index},
      groups_of(1, 1)));
  CHECK(narrow_sum[0] == round(round(7 * scale) + zero));
  const Floats wide =
      floats(run(Op::qembedding, {codes, f32({1, 1}, {scale}), f32({1, 1}, {zero}), index}, groups_of(1, 1)));
  CHECK(wide[0] == 7 * scale + zero);
  CHECK(wide[0] != narrow_sum[0]);
}

TEST_CASE("qembedding checks a table of narrow codes") {
  const Tensor codes = narrow(DType::i4, {2, 3}, {-8, 7, 1, 0, 2, -3}), index = i64({1}, {0});
  const Tensor scales = f32({2, 2}, {1, 1, 1, 1}), none = i8({1, 1}, {0});
  const auto code = [&](const Operands& operands, const Attributes& attributes) {
    return code_of(Op::qembedding, operands, attributes);
  };
  CHECK(code({codes, scales, none, index}, groups_of(2, 4)) == Code::invalid_model);
  CHECK(code({codes, scales, none, index}, groups_of(1, 3)) == Code::invalid_model);
  CHECK(code({codes, scales, none, index}, groups_of(-2, 3)) == Code::invalid_model);
  CHECK(code({codes, scales, u8({2, 2}, {1, 1, 1, 1}), index}, groups_of(2, 3)) == Code::invalid_model);
  CHECK(code({codes, scales, i8({1, 2}, {1, 1}), index}, groups_of(2, 3)) == Code::invalid_model);
  const Tensor empty = Tensor::make(DType::i4, {2, 0}).value(), no_scales = f32({2, 0}, {});
  CHECK(code({codes, scales, std::nullopt, index}, groups_of(2, 3)) == Code::invalid_model);
  CHECK(code({empty, no_scales, none, index}, groups_of(2, 0)) == Code::invalid_model);
  CHECK(code({wave({2, 3}, 1), scales, none, index}, groups_of(2, 3)) == Code::invalid_model);
  CHECK(code({codes, scales, none, i64({1}, {2})}, groups_of(2, 3)) == Code::invalid_data);
  CHECK(code({u8({2, 2}, {0, 1, 2, 3}), scale(), none, index}, kBytes) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
