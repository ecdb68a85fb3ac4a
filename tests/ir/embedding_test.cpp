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

}  // namespace
}  // namespace aoq
