// GGUF files made here, and broken ones.
#include "formats/gguf/gguf.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "tests/formats/mutate.h"

namespace aoq {
namespace {

class Writer {
 public:
  template <class T>
  Writer& number(T value) {
    const auto* p = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), p, p + sizeof(T));
    return *this;
  }
  Writer& text(std::string_view s) {
    number(static_cast<std::uint64_t>(s.size()));
    for (char c : s) bytes.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Writer& head(std::uint64_t tensors, std::uint64_t settings, std::uint32_t version = 3) {
    for (char c : std::string("GGUF")) bytes.push_back(static_cast<std::byte>(c));
    return number(version).number(tensors).number(settings);
  }
  Writer& tensor(std::string_view name, std::vector<std::uint64_t> extents, std::uint32_t type, std::uint64_t offset) {
    text(name).number(static_cast<std::uint32_t>(extents.size()));
    for (std::uint64_t e : extents) number(e);
    return number(type).number(offset);
  }
  Writer& align(std::size_t to = 32) {
    bytes.resize((bytes.size() + to - 1) / to * to);
    return *this;
  }

  std::vector<std::byte> bytes;
};

std::uint16_t half(float v) {
  std::uint16_t bits = 0;
  dtype_info(DType::f16).from_float({&v, 1}, reinterpret_cast<std::byte*>(&bits), 0);
  return bits;
}

struct Block {
  const char* name;
  std::uint32_t type;
  std::vector<std::byte> bytes;
  std::vector<float> values;  // the first four and the 17th of 32
};

std::vector<std::byte> nibbles() {
  std::vector<std::byte> out;
  for (int i = 0; i < 16; ++i) out.push_back(static_cast<std::byte>(i | (15 - i) << 4));
  return out;
}

std::vector<Block> blocks() {
  std::vector<Block> out;
  const auto with = [](std::initializer_list<float> halves, std::vector<std::byte> more) {
    Writer w;
    for (float h : halves) w.number(half(h));
    w.bytes.insert(w.bytes.end(), more.begin(), more.end());
    return w.bytes;
  };
  out.push_back({"Q4_0", 2, with({0.5f}, nibbles()), {-4.0f, -3.5f, -3.0f, -2.5f, 3.5f}});
  out.push_back({"Q4_1", 3, with({0.5f, 1.0f}, nibbles()), {1.0f, 1.5f, 2.0f, 2.5f, 8.5f}});
  // The fifth bits: elements 0, 2 and 16.
  std::vector<std::byte> fifth{std::byte{5}, std::byte{0}, std::byte{1}, std::byte{0}};
  std::vector<std::byte> codes = nibbles();
  fifth.insert(fifth.end(), codes.begin(), codes.end());
  out.push_back({"Q5_0", 6, with({0.5f}, fifth), {0.0f, -7.5f, 1.0f, -6.5f, 7.5f}});
  out.push_back({"Q5_1", 7, with({0.5f, 1.0f}, fifth), {9.0f, 1.5f, 10.0f, 2.5f, 16.5f}});
  std::vector<std::byte> bytes;
  for (int i = 0; i < 32; ++i) bytes.push_back(static_cast<std::byte>(i * 8 - 128));
  out.push_back({"Q8_0", 8, with({0.25f}, bytes), {-32.0f, -30.0f, -28.0f, -26.0f, 0.0f}});
  Writer plain;
  for (int i = 0; i < 32; ++i) plain.number(static_cast<float>(i) - 2.5f);
  out.push_back({"F32", 0, plain.bytes, {-2.5f, -1.5f, -0.5f, 0.5f, 13.5f}});
  return out;
}

std::vector<std::byte> file_with(const Block& block) {
  Writer w;
  w.head(1, 3);
  w.text("general.name").number(std::uint32_t{8}).text("a model");
  w.text("sizes").number(std::uint32_t{9}).number(std::uint32_t{4}).number(std::uint64_t{2});
  w.number(std::uint32_t{3}).number(std::uint32_t{5});
  w.text("rate").number(std::uint32_t{6}).number(0.5f);
  w.tensor("w", {32, 1}, block.type, 0).align();
  w.bytes.insert(w.bytes.end(), block.bytes.begin(), block.bytes.end());
  return w.bytes;
}

TEST_CASE("blocks of every type become their numbers") {
  for (const Block& block : blocks()) {
    CAPTURE(block.name);
    const std::vector<std::byte> bytes = file_with(block);
    const Result<GgufFile> file = read_gguf(bytes);
    INFO(file.status().message());
    REQUIRE(file.ok());
    CHECK(std::get<std::string>(file->settings.at("general.name")) == "a model");
    CHECK(std::get<std::vector<std::int64_t>>(file->settings.at("sizes")) == std::vector<std::int64_t>{3, 5});
    CHECK(std::get<double>(file->settings.at("rate")) == 0.5);
    const GgufTensor* w = file->find("w");
    REQUIRE(w != nullptr);
    CHECK(w->shape == std::vector<std::int64_t>{1, 32});
    const Tensor values = gguf_floats(*w).value();
    for (std::size_t i = 0; i < 4; ++i) CHECK(values.as<float>()[i] == block.values[i]);
    CHECK(values.as<float>()[16] == block.values[4]);
  }
}

TEST_CASE("a file that ends anywhere is an error; one with other bytes is an error or a file") {
  const auto read = [](std::span<const std::byte> bytes) -> Status {
    AOQ_ASSIGN(const GgufFile file, read_gguf(bytes));
    for (const GgufTensor& t : file.tensors) AOQ_TRY(gguf_floats(t).status());
    return {};
  };
  for (const Block& block : blocks()) {
    const std::vector<std::byte> whole = file_with(block);
    refuse_truncations(whole, read);
    survive_damage(whole, read, 2000);
  }
}

Code code_of(Writer& w) {
  return read_gguf(w.bytes).status().code();
}

TEST_CASE("contradictions and what is not read are told apart") {
  Writer version, big, counts, twice, misaligned, row, unknown, deep, array, beyond;
  CHECK(code_of(version.head(0, 0, 1)) == Code::unsupported);
  CHECK(code_of(big.head(0, 0, 0x03000000)) == Code::unsupported);
  CHECK(code_of(counts.head(UINT64_MAX, 0)) == Code::resource_limit);
  twice.head(2, 0).tensor("w", {32}, 0, 0).tensor("w", {32}, 0, 128).align();
  twice.bytes.resize(twice.bytes.size() + 256);
  CHECK(code_of(twice) == Code::invalid_data);
  misaligned.head(1, 0).tensor("w", {32}, 0, 4).align();
  misaligned.bytes.resize(misaligned.bytes.size() + 256);
  CHECK(code_of(misaligned) == Code::invalid_data);
  row.head(1, 0).tensor("w", {31}, 2, 0).align();
  row.bytes.resize(row.bytes.size() + 256);
  CHECK(code_of(row) == Code::invalid_data);
  CHECK(code_of(unknown.head(1, 0).tensor("w", {32}, 12, 0).align()) == Code::unsupported);
  CHECK(code_of(deep.head(1, 0).tensor("w", std::vector<std::uint64_t>(9, 1), 0, 0).align()) == Code::resource_limit);
  array.head(0, 1).text("a").number(std::uint32_t{9}).number(std::uint32_t{0}).number(UINT64_MAX);
  CHECK(code_of(array) == Code::invalid_data);
  beyond.head(1, 0).tensor("w", {std::uint64_t{1} << 47, 1 << 15}, 0, 0).align();
  CHECK(code_of(beyond) == Code::invalid_data);
}

}  // namespace
}  // namespace aoq
