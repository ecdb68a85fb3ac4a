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
  const auto plain = [&](const char* name, std::uint32_t type, DType dtype, float first) {
    Writer w;
    w.bytes.resize(static_cast<std::size_t>(dtype_info(dtype).bits / 8 * 32));
    for (int i = 0; i < 32; ++i) store_from_double(dtype, w.bytes.data(), i, static_cast<double>(i) + first);
    out.push_back({name, type, w.bytes, {first, first + 1, first + 2, first + 3, first + 16}});
  };
  plain("F32", 0, DType::f32, -2.5f);
  plain("F16", 1, DType::f16, -2.5f);
  plain("BF16", 30, DType::bf16, -2.5f);
  plain("F64", 28, DType::f64, -2.5f);
  plain("I8", 24, DType::i8, -3.0f);
  plain("I16", 25, DType::i16, -3.0f);
  plain("I32", 26, DType::i32, -3.0f);
  plain("I64", 27, DType::i64, -3.0f);
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

TEST_CASE("settings of every type are read; those that are none are refused") {
  Writer w;
  w.head(0, 12);
  w.text("u8").number(std::uint32_t{0}).number(std::uint8_t{200});
  w.text("i8").number(std::uint32_t{1}).number(std::int8_t{-3});
  w.text("u16").number(std::uint32_t{2}).number(std::uint16_t{60000});
  w.text("i16").number(std::uint32_t{3}).number(std::int16_t{-300});
  w.text("u32").number(std::uint32_t{4}).number(std::uint32_t{4000000000});
  w.text("i32").number(std::uint32_t{5}).number(std::int32_t{-5});
  w.text("bool").number(std::uint32_t{7}).number(std::uint8_t{1});
  w.text("u64").number(std::uint32_t{10}).number(std::uint64_t{1} << 62);
  w.text("i64").number(std::uint32_t{11}).number(std::int64_t{-7});
  w.text("f64").number(std::uint32_t{12}).number(0.25);
  w.text("texts").number(std::uint32_t{9}).number(std::uint32_t{8}).number(std::uint64_t{2}).text("a").text("");
  w.text("none").number(std::uint32_t{9}).number(std::uint32_t{6}).number(std::uint64_t{0});
  const GgufFile file = read_gguf(w.bytes).value();
  const auto integer = [&](const char* key) { return std::get<std::int64_t>(file.settings.at(key)); };
  CHECK(integer("u8") == 200);
  CHECK(integer("i8") == -3);
  CHECK(integer("u16") == 60000);
  CHECK(integer("i16") == -300);
  CHECK(integer("u32") == 4000000000);
  CHECK(integer("i32") == -5);
  CHECK(integer("u64") == std::int64_t{1} << 62);
  CHECK(integer("i64") == -7);
  CHECK(std::get<bool>(file.settings.at("bool")));
  CHECK(std::get<double>(file.settings.at("f64")) == 0.25);
  CHECK(std::get<std::vector<std::string>>(file.settings.at("texts")) == std::vector<std::string>{"a", ""});
  CHECK(std::get<std::vector<double>>(file.settings.at("none")).empty());
  Writer type, twice, wide, nested;
  CHECK(code_of(type.head(0, 1).text("a").number(std::uint32_t{13})) == Code::invalid_data);
  twice.head(0, 2);
  for (int i = 0; i < 2; ++i) twice.text("a").number(std::uint32_t{0}).number(std::uint8_t{1});
  CHECK(code_of(twice) == Code::invalid_data);
  CHECK(code_of(wide.head(0, 1).text("a").number(std::uint32_t{10}).number(UINT64_MAX)) == Code::invalid_data);
  nested.head(0, 1).text("a").number(std::uint32_t{9}).number(std::uint32_t{9}).number(std::uint64_t{1});
  nested.number(std::uint32_t{9}).number(std::uint64_t{1}).number(std::uint32_t{9}).number(std::uint64_t{0});
  CHECK(!read_gguf(nested.bytes).ok());
}

TEST_CASE("an alignment is a power of two, and tensors keep to it") {
  for (const std::uint32_t alignment : {0u, 3u, 48u, 1u << 21}) {
    CAPTURE(alignment);
    Writer w;
    CHECK(code_of(w.head(0, 1).text("general.alignment").number(std::uint32_t{4}).number(alignment)) ==
          Code::invalid_data);
  }
  Writer word;
  CHECK(code_of(word.head(0, 1).text("general.alignment").number(std::uint32_t{8}).text("64")) == Code::invalid_data);
  for (const auto& [offset, code] : {std::pair(64u, Code::ok), std::pair(32u, Code::invalid_data)}) {
    Writer w;
    w.head(1, 1).text("general.alignment").number(std::uint32_t{4}).number(std::uint32_t{64});
    w.tensor("w", {4}, 0, offset).align(64);
    for (int i = 0; i < 20; ++i) w.number(static_cast<float>(i));
    const Result<GgufFile> file = read_gguf(w.bytes);
    CHECK(file.status().code() == code);
    if (file.ok()) CHECK(gguf_floats(*file->find("w"))->as<float>()[0] == 16.0f);
  }
}

TEST_CASE("scalars, tensors without elements and shapes of several dimensions") {
  Writer w;
  w.head(4, 0).tensor("scalar", {}, 0, 0).tensor("none", {32, 0}, 2, 0).tensor("three", {2, 3, 4}, 24, 32);
  w.tensor("last", {1}, 0, 64).align();
  w.number(2.5f).align();
  for (int i = 0; i < 24; ++i) w.number(static_cast<std::int8_t>(i));
  w.align().number(7.0f);
  const GgufFile file = read_gguf(w.bytes).value();
  CHECK(gguf_floats(*file.find("scalar"))->as<float>()[0] == 2.5f);
  CHECK(gguf_floats(*file.find("none"))->element_count() == 0);
  CHECK(file.find("three")->shape == std::vector<std::int64_t>{4, 3, 2});
  CHECK(gguf_floats(*file.find("three"))->as<float>()[23] == 23.0f);
  CHECK(gguf_floats(*file.find("last"))->as<float>()[0] == 7.0f);
  CHECK(file.find("absent") == nullptr);
  // A scalar of a type in blocks, and rows that blocks do not fill.
  for (const std::vector<std::uint64_t>& shape : {std::vector<std::uint64_t>{}, {16, 2}}) {
    Writer broken;
    broken.head(1, 0).tensor("w", shape, 2, 0).align();
    broken.bytes.resize(broken.bytes.size() + 64);
    CHECK(code_of(broken) == Code::invalid_data);
  }
}

TEST_CASE("limits on counts, names and settings hold") {
  Limits limits;
  limits.tensors = 1;
  Writer two;
  two.head(2, 0);
  CHECK(read_gguf(two.bytes, limits).status().code() == Code::resource_limit);
  limits.name_bytes = 3;
  Writer name, text;
  name.head(1, 0).tensor("four", {1}, 0, 0).align();
  CHECK(read_gguf(name.bytes, limits).status().code() == Code::resource_limit);
  limits.metadata_bytes = 2;
  text.head(0, 1).text("a").number(std::uint32_t{8}).text("long");
  CHECK(read_gguf(text.bytes, limits).status().code() == Code::resource_limit);
}

}  // namespace
}  // namespace aoq
