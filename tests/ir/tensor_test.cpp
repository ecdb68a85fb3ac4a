#include "ir/tensor.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace aoq {
namespace {

TEST_CASE("make gives zeroed aligned memory of the packed size") {
  Result<Tensor> t = Tensor::make(DType::u3, {3, 5});
  REQUIRE(t.ok());
  CHECK(t->element_count() == 15);
  CHECK(t->byte_size() == 6);
  CHECK(reinterpret_cast<std::uintptr_t>(t->bytes().data()) % 64 == 0);
  for (std::byte b : t->bytes()) CHECK(b == std::byte{0});
  Result<Tensor> scalar = Tensor::make(DType::f32, {});
  REQUIRE(scalar.ok());
  CHECK(scalar->element_count() == 1);
  Result<Tensor> empty = Tensor::make(DType::f32, {0, 3});
  REQUIRE(empty.ok());
  CHECK(empty->bytes().empty());
}

TEST_CASE("sizes that overflow are refused") {
  CHECK(Tensor::make(DType::f32, {-1}).status().code() == Code::invalid_argument);
  CHECK(Tensor::make(DType::f64, {std::int64_t{1} << 62}).status().code() == Code::invalid_argument);
  CHECK(Tensor::make(DType::f32, {std::int64_t{1} << 31, std::int64_t{1} << 31, 4}).status().code() ==
        Code::invalid_argument);
  const std::array<std::byte, 3> three{};
  CHECK(Tensor::copy_of(DType::f32, {1}, three).status().code() == Code::invalid_argument);
}

TEST_CASE("a copy shares the buffer until one of the two is written to") {
  Tensor a = Tensor::make(DType::i32, {4}).value();
  a.mutable_as<std::int32_t>()[1] = 7;
  Tensor b = a;
  CHECK(a.bytes().data() == b.bytes().data());
  b.mutable_as<std::int32_t>()[1] = 8;
  CHECK(a.bytes().data() != b.bytes().data());
  CHECK(a.as<std::int32_t>()[1] == 7);
  CHECK(b.as<std::int32_t>()[1] == 8);
  const std::byte* before = b.bytes().data();
  b.mutable_bytes();
  CHECK(b.bytes().data() == before);
}

TEST_CASE("borrowed memory is kept alive, and copied before a write") {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3});
  std::weak_ptr<std::vector<float>> watch = owner;
  const std::byte* data = reinterpret_cast<const std::byte*>(owner->data());
  Tensor t = Tensor::borrow(DType::f32, {3}, data, std::move(owner)).value();
  CHECK(t.bytes().data() == data);
  CHECK(!watch.expired());
  Tensor copy = t;
  t.mutable_as<float>()[0] = 9;
  CHECK(copy.as<float>()[0] == 1);
  CHECK(t.as<float>()[2] == 3);
  copy = Tensor();
  CHECK(watch.expired());
}

TEST_CASE("reshaped shares and checks the count") {
  Tensor t = Tensor::make(DType::f32, {2, 3}).value();
  Result<Tensor> r = t.reshaped({3, 2});
  REQUIRE(r.ok());
  CHECK(r->bytes().data() == t.bytes().data());
  CHECK(t.reshaped({4}).status().code() == Code::invalid_argument);
  CHECK(shape_to_string(t.shape()) == "[2, 3]");
  CHECK(t.view().element_count() == 6);
}

}  // namespace
}  // namespace aoq
