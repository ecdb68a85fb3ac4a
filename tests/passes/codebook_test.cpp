#include "passes/quantize/codebook.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/passes/tensor_support.h"

namespace aoq {
namespace {

using Floats = std::vector<float>;
using Shape = std::vector<std::int64_t>;

TEST_CASE("as many different blocks as entries are found exactly") {
  const Tensor x = f32_tensor({2, 4}, {1, 0.5f, -1, 0.25f, 2, 1, -2, 0.5f});
  const CodebookForm form{{1, 1}, 4, DType::u2, 200};
  const Codebook book = choose_codebook(x.view(), form).value();
  CHECK(floats_of(book.scales) == Floats{1, 2});
  CHECK(book.scales.shape() == Shape{2, 1, 1});
  CHECK(book.entries.shape() == Shape{4, 1, 1});
  const Tensor codes = quantize_codebook(x.view(), book, DType::u2).value();
  CHECK(codes.shape() == Shape{2, 4});
  CHECK(codes.byte_size() == 2);
  CHECK(floats_of(dequantize_codebook(codes.view(), book, DType::f32).value()) == floats_of(x));
}

TEST_CASE("a block of several elements is scaled by its row's norm") {
  const Tensor x = f32_tensor({2, 4}, {3, 4, 0, 0, 0, 0, 6, 8});
  const Codebook book = choose_codebook(x.view(), {{1, 2}, 4, DType::u1, 200}).value();
  CHECK(floats_of(book.scales) == Floats{5, 10});
  const Tensor codes = quantize_codebook(x.view(), book, DType::u1).value();
  CHECK(codes.shape() == Shape{2, 2});
  const Floats d = floats_of(dequantize_codebook(codes.view(), book, DType::f32).value());
  const Floats expected = floats_of(x);
  for (std::size_t i = 0; i < d.size(); ++i) CHECK(d[i] == doctest::Approx(expected[i]));
}

TEST_CASE("more entries never make the error larger, and nothing is random") {
  const Tensor x = normal_tensor({8, 32}, 5);
  double before = std::numeric_limits<double>::infinity();
  for (DType dtype : {DType::u1, DType::u2, DType::u3, DType::u4, DType::u6}) {
    const CodebookForm form{{1, 2}, 32, dtype, 200};
    const Codebook book = choose_codebook(x.view(), form).value();
    CHECK(floats_of(book.entries) == floats_of(choose_codebook(x.view(), form).value().entries));
    const Tensor codes = quantize_codebook(x.view(), book, dtype).value();
    const Floats d = floats_of(dequantize_codebook(codes.view(), book, DType::f32).value()), v = floats_of(x);
    double error = 0;
    for (std::size_t i = 0; i < v.size(); ++i) error += std::pow(static_cast<double>(v[i] - d[i]), 2);
    CHECK(error < before);
    before = error;
  }
}

TEST_CASE("equal, zero and negative numbers have codes") {
  for (float value : {0.0f, 2.0f, -2.0f, 1e-30f}) {
    CAPTURE(value);
    const Tensor x = f32_tensor({1, 4}, Floats(4, value));
    const Codebook book = choose_codebook(x.view(), {{1, 1}, 4, DType::u4, 200}).value();
    for (float s : floats_of(book.scales)) CHECK(std::isfinite(s));
    const Tensor codes = quantize_codebook(x.view(), book, DType::u4).value();
    for (float d : floats_of(dequantize_codebook(codes.view(), book, DType::f32).value())) {
      CHECK(d == doctest::Approx(value));
    }
  }
}

TEST_CASE("a codebook refuses what does not fit") {
  const Tensor x = normal_tensor({4, 6}, 1);
  const auto code_of = [&](const CodebookForm& form) { return choose_codebook(x.view(), form).status().code(); };
  CHECK(code_of({{1, 4}, 6, DType::u4, 200}) == Code::invalid_argument);
  CHECK(code_of({{1}, 6, DType::u4, 200}) == Code::invalid_argument);
  CHECK(code_of({{1, 0}, 6, DType::u4, 200}) == Code::invalid_argument);
  CHECK(code_of({{1, 1}, 4, DType::u4, 200}) == Code::invalid_argument);
  CHECK(code_of({{1, 1}, 0, DType::u4, 200}) == Code::invalid_argument);
  CHECK(code_of({{1, 1}, 6, DType::i4, 200}) == Code::invalid_argument);
  CHECK(code_of({{1, 1}, 6, DType::u16, 200}) == Code::invalid_argument);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor y = f32_tensor({1, 2}, {1, bad});
    CHECK(choose_codebook(y.view(), {{1, 1}, 2, DType::u4, 200}).status().code() == Code::invalid_data);
    CHECK(choose_codebook(y.view(), {{1, 2}, 2, DType::u4, 200}).status().code() == Code::invalid_data);
  }
  const Tensor empty = f32_tensor({0, 2}, {});
  CHECK(choose_codebook(empty.view(), {{1, 1}, 2, DType::u4, 200}).status().code() == Code::invalid_data);
  const Codebook book = choose_codebook(x.view(), {{1, 1}, 6, DType::u4, 200}).value();
  CHECK(quantize_codebook(x.view(), book, DType::u2).status().code() == Code::invalid_argument);
  const Tensor other = normal_tensor({3, 6}, 1);
  CHECK(quantize_codebook(other.view(), book, DType::u4).status().code() == Code::invalid_argument);
  Tensor codes = Tensor::make(DType::u8, {4, 6}).value();
  store_integer(DType::u8, codes.mutable_bytes().data(), 7, 16);
  CHECK(dequantize_codebook(codes.view(), book, DType::f32).status().code() == Code::invalid_data);
  CHECK(dequantize_codebook(x.view(), book, DType::f32).status().code() == Code::invalid_argument);
}

}  // namespace
}  // namespace aoq
