#include "formats/safetensors/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/formats/mutate.h"

namespace aoq {
namespace {

std::vector<std::byte> file_of(std::string_view header, std::size_t data_size) {
  const std::uint64_t size = header.size();
  std::string text(reinterpret_cast<const char*>(&size), 8);
  text += header;
  text.append(data_size, '\0');
  return to_bytes(text);
}

Code code_of(std::string_view header, std::size_t data_size) {
  return read_safetensors(file_of(header, data_size)).status().code();
}

std::vector<std::byte> written(const SafetensorsFile& file) {
  std::vector<std::byte> bytes;
  const Status status = write_safetensors(file, [&](std::span<const std::byte> piece) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return Status();
  });
  REQUIRE(status.ok());
  return bytes;
}

SafetensorsFile every_type() {
  SafetensorsFile file;
  for (std::size_t i = 0; i < all_dtypes().size(); ++i) {
    const DType d = static_cast<DType>(i);
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{3, 5}, {2, 8}, {}, {0}}) {
      Tensor t = Tensor::make(d, shape).value();
      std::uint8_t value = static_cast<std::uint8_t>(i);
      for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(d == DType::boolean ? 1 : value++ % 2);
      file.tensors.push_back({std::string(dtype_name(d)) + shape_to_string(shape), t});
    }
  }
  file.metadata["format"] = "pt";
  return file;
}

TEST_CASE("every type goes out and in, aligned, in place") {
  const SafetensorsFile file = every_type();
  auto bytes = std::make_shared<std::vector<std::byte>>(written(file));
  Result<SafetensorsFile> back = read_safetensors(*bytes, bytes);
  REQUIRE(back.ok());
  CHECK(back->metadata == file.metadata);
  CHECK(back->tensors.size() == file.tensors.size());
  for (const NamedTensor& t : file.tensors) {
    CAPTURE(t.name);
    const Tensor* found = back->find(t.name);
    REQUIRE(found != nullptr);
    CHECK(found->dtype() == t.tensor.dtype());
    CHECK(found->shape() == t.tensor.shape());
    CHECK(std::equal(found->bytes().begin(), found->bytes().end(), t.tensor.bytes().begin(), t.tensor.bytes().end()));
    CHECK(found->bytes().data() >= bytes->data());
    CHECK(found->bytes().data() <= bytes->data() + bytes->size());
  }
  CHECK(written(*back) == *bytes);
}

TEST_CASE("a file as others write it") {
  const char* header = R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[1,5]},"a":{"dtype":"F8_E4M3","shape":[1],)"
                       R"("data_offsets":[0,1]},"__metadata__":{"k":"v"}}   )";
  Result<SafetensorsFile> file = read_safetensors(file_of(header, 5));
  REQUIRE(file.ok());
  CHECK(file->tensors[0].name == "a");
  CHECK(file->tensors[0].tensor.dtype() == DType::f8_e4m3fn);
  CHECK(file->find("b")->shape() == std::vector<std::int64_t>{2});
  CHECK(file->metadata.at("k") == "v");
  CHECK(read_safetensors(file_of("{}", 0)).ok());
}

TEST_CASE("[class 13] what is refused") {
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,2]}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":2,"data_offsets":[0,2]}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0]}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1}})", 2) == Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,2]}})", 2) == Code::unsupported);
  CHECK(code_of(R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0) ==
        Code::invalid_data);
  CHECK(code_of(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0) ==
        Code::invalid_data);
  CHECK(
      code_of(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
          2) == Code::invalid_data);
  CHECK(
      code_of(
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
          3) == Code::invalid_data);
  CHECK(code_of(R"({"__metadata__":{"k":1}})", 0) == Code::invalid_data);
  CHECK(code_of("[]", 0) == Code::invalid_data);
  CHECK(code_of(R"({"__metadata__":{"aoq.tensor.a":"u4[5]"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                2) == Code::invalid_data);
  std::vector<std::byte> huge = file_of("{}", 0);
  huge[7] = std::byte{0xff};
  CHECK(read_safetensors(huge).status().code() == Code::resource_limit);
}

TEST_CASE("the writer refuses names it could not read back") {
  SafetensorsFile file;
  file.tensors.push_back({"a", Tensor()});
  file.tensors.push_back({"a", Tensor::make(DType::u8, {1}).value()});
  const auto ignore = [](std::span<const std::byte>) { return Status(); };
  CHECK(write_safetensors(file, ignore).code() == Code::invalid_argument);
  file.tensors.resize(1);
  file.tensors[0].name = "__metadata__";
  CHECK(write_safetensors(file, ignore).code() == Code::invalid_argument);
}

TEST_CASE("truncated and damaged files") {
  SafetensorsFile small;
  small.tensors.push_back({"w", Tensor::make(DType::f32, {2, 3}).value()});
  small.tensors.push_back({"q", Tensor::make(DType::u4, {5}).value()});
  const std::vector<std::byte> file = written(small);
  const ReadBytes read = [](std::span<const std::byte> bytes) { return read_safetensors(bytes).status(); };
  refuse_truncations(file, read);
  survive_damage(file, read, 40000);
}

}  // namespace
}  // namespace aoq
