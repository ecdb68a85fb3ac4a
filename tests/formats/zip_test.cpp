#include "formats/zip/zip.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include <cstring>

#include "formats/io/file.h"
#include "formats/zip/records.h"
#include "tests/formats/mutate.h"

namespace aoq {
namespace {

ZipSink sink_into(std::vector<std::byte>& out) {
  return [&out](std::span<const std::byte> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
    return Status();
  };
}

std::vector<std::byte> archive_of(std::initializer_list<std::pair<const char*, const char*>> entries) {
  std::vector<std::byte> file;
  ZipWriter writer(sink_into(file));
  for (const auto& [name, content] : entries) REQUIRE(writer.add(name, to_bytes(content)).ok());
  REQUIRE(writer.finish().ok());
  return file;
}

template <class T>
void poke(std::vector<std::byte>& file, std::size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof(T));
}

std::size_t find_signature(const std::vector<std::byte>& file, std::uint32_t signature, int nth = 0) {
  for (std::size_t i = 0; i + 4 <= file.size(); ++i) {
    if (zip::load<std::uint32_t>(file, i) == signature && nth-- == 0) return i;
  }
  FAIL("no such record");
  return 0;
}

Status read_everything(std::span<const std::byte> bytes) {
  AOQ_ASSIGN(const ZipReader reader, ZipReader::open(bytes));
  for (const ZipEntry& e : reader.entries()) AOQ_TRY(reader.read(e).status());
  return {};
}

Code code_of(std::span<const std::byte> bytes) {
  return read_everything(bytes).code();
}

// One deflated entry, written by hand.
std::vector<std::byte> deflated(std::string_view content, std::uint32_t declared_size) {
  std::vector<std::byte> packed(content.size() + 100);
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  std::vector<std::byte> file;
  ZipWriter writer(sink_into(file));
  REQUIRE(writer.add("a", packed).ok());
  REQUIRE(writer.finish().ok());
  const std::uint32_t crc = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
  for (const std::size_t flags : {std::size_t{6}, find_signature(file, zip::kCentralSignature) + 8}) {
    poke(file, flags + 2, std::uint16_t{8});
    poke(file, flags + 8, crc);
    poke(file, flags + 16, declared_size);
  }
  return file;
}

TEST_CASE("what is written is read in place, aligned, and twice the same") {
  const std::vector<std::byte> file = archive_of({{"a", "hello"}, {"dir/b", ""}, {"c", "world!"}});
  CHECK(file == archive_of({{"a", "hello"}, {"dir/b", ""}, {"c", "world!"}}));
  Result<ZipReader> reader = ZipReader::open(file);
  REQUIRE(reader.ok());
  CHECK(reader->entries().size() == 3);
  const ZipEntry* c = reader->find("c");
  REQUIRE(c != nullptr);
  CHECK(c->payload_offset % 64 == 0);
  Result<std::span<const std::byte>> payload = reader->stored(*c);
  REQUIRE(payload.ok());
  CHECK(payload->data() == file.data() + c->payload_offset);
  CHECK(*reader->read(*c) == to_bytes("world!"));
  CHECK(reader->verify(*c).ok());
  CHECK(reader->find("d") == nullptr);
  CHECK(ZipReader::open(archive_of({})).ok());
}

TEST_CASE("the writer refuses a name twice") {
  std::vector<std::byte> file;
  ZipWriter writer(sink_into(file));
  CHECK(writer.add("a", to_bytes("1")).ok());
  CHECK(writer.add("a", to_bytes("2")).code() == Code::invalid_argument);
  CHECK(writer.add("", to_bytes("2")).code() == Code::invalid_argument);
}

TEST_CASE("[class 12] names that are not canonical are refused, unless names are only keys") {
  for (const char* name : {"/a", "../a", "a/../b", "a//b", "./a", "a\\b", "C:a", "a/."}) {
    CAPTURE(name);
    const std::vector<std::byte> file = archive_of({{name, "x"}});
    CHECK(code_of(file) == Code::invalid_data);
    CHECK(ZipReader::open(file, {.names = ZipNames::any}).ok());
  }
}

TEST_CASE("directories are left out and have no content") {
  const std::vector<std::byte> file = archive_of({{"d/", ""}, {"d/a", "x"}});
  Result<ZipReader> reader = ZipReader::open(file);
  REQUIRE(reader.ok());
  CHECK(reader->entries().size() == 1);
  CHECK(reader->find("d/") == nullptr);
  CHECK(reader->find("d/a")->name == "d/a");
  CHECK(code_of(archive_of({{"d/", "x"}})) == Code::invalid_data);
}

TEST_CASE("[class 12] two entries of one name, and entries that overlap, are refused") {
  const std::vector<std::byte> good = archive_of({{"a", "same"}, {"b", "same"}});
  std::vector<std::byte> file = good;
  const std::size_t second = find_signature(file, zip::kCentralSignature, 1);
  file[second + zip::kCentralSize] = std::byte{'a'};
  file[find_signature(file, zip::kLocalSignature, 1) + zip::kLocalSize] = std::byte{'a'};
  CHECK(code_of(file) == Code::invalid_data);
  file = good;
  file[second + zip::kCentralSize] = std::byte{'b'};
  poke(file, second + 42, std::uint32_t{0});
  CHECK(code_of(file) == Code::invalid_data);
}

TEST_CASE("[class 12] local header and directory must agree in every field") {
  const std::vector<std::byte> good = archive_of({{"name", "content"}});
  REQUIRE(code_of(good) == Code::ok);
  for (std::size_t at : {6, 8, 14, 18, 22, 26, 30}) {
    std::vector<std::byte> file = good;
    file[at] ^= std::byte{4};
    CAPTURE(at);
    CHECK(code_of(file) != Code::ok);
  }
}

TEST_CASE("[class 12] bytes before, after or between are refused") {
  const std::vector<std::byte> good = archive_of({{"a", "x"}});
  std::vector<std::byte> file = good;
  file.push_back(std::byte{0});
  CHECK(code_of(file) == Code::invalid_data);
  file = good;
  file.insert(file.begin(), std::byte{0});
  CHECK(code_of(file) == Code::invalid_data);
  file = good;
  poke(file, file.size() - 2, std::uint16_t{1});
  file.push_back(std::byte{0});
  CHECK(code_of(file) == Code::invalid_data);
}

TEST_CASE("[class 12] deflated entries are inflated, with their size declared and limited") {
  const std::string content(5000, 'a');
  const std::vector<std::byte> file = deflated(content, 5000);
  Result<ZipReader> reader = ZipReader::open(file);
  REQUIRE(reader.ok());
  CHECK(*reader->read(reader->entries()[0]) == to_bytes(content));
  CHECK(reader->stored(reader->entries()[0]).status().code() == Code::unsupported);
  CHECK(ZipReader::open(file, {.max_inflated_bytes = 4999}).status().code() == Code::resource_limit);
  CHECK(code_of(deflated(content, 4999)) == Code::invalid_data);
  CHECK(code_of(deflated(content, 5001)) == Code::invalid_data);
  CHECK(code_of(deflated(content, 4'000'000'000u)) == Code::invalid_data);
  const ReadBytes read = [](std::span<const std::byte> bytes) { return read_everything(bytes); };
  survive_damage(file, read, 20000);
}

TEST_CASE("encryption, other methods and a wrong checksum are refused") {
  const std::vector<std::byte> good = archive_of({{"a", "x"}});
  const std::size_t central = find_signature(good, zip::kCentralSignature);
  std::vector<std::byte> file = good;
  file[central + 8] |= std::byte{1};
  CHECK(code_of(file) == Code::unsupported);
  file = good;
  file[central + 10] = std::byte{12};
  CHECK(code_of(file) == Code::unsupported);
  file = good;
  Result<ZipReader> reader = ZipReader::open(good);
  file[reader->entries()[0].payload_offset] ^= std::byte{1};
  CHECK(code_of(file) == Code::invalid_data);
}

TEST_CASE("[class 12] a zip64 end record is read and must agree with the end record") {
  std::vector<std::byte> file;
  ZipWriter writer(sink_into(file));
  for (int i = 0; i < 70000; ++i) REQUIRE(writer.add(std::to_string(i), std::span<const std::byte>()).ok());
  REQUIRE(writer.finish().ok());
  Result<ZipReader> reader = ZipReader::open(file);
  REQUIRE(reader.ok());
  CHECK(reader->entries().size() == 70000);
  CHECK(ZipReader::open(file, {.max_entries = 69999}).status().code() == Code::resource_limit);
  const std::size_t end64 = file.size() - zip::kEndSize - zip::kLocatorSize - zip::kEnd64Size;
  for (std::size_t field : {0u, 4u, 16u, 20u, 24u, 32u, 40u, 48u, 64u}) {
    CAPTURE(field);
    std::vector<std::byte> damaged = file;
    damaged[end64 + field] ^= std::byte{1};
    CHECK(!ZipReader::open(damaged).ok());
  }
}

TEST_CASE("archives that torch.export wrote are read") {
  for (const char* name : {"activations", "cnn_fbgemm"}) {
    Result<std::shared_ptr<const MappedFile>> file =
        MappedFile::open(std::string(AOQ_TEST_DATA) + "/golden/models/" + name + "/float.pt2");
    REQUIRE(file.ok());
    CHECK(read_everything((*file)->bytes()).ok());
  }
}

TEST_CASE("truncated and damaged archives") {
  const std::vector<std::byte> file = archive_of({{"a", "hello"}, {"d/b", "x"}});
  const ReadBytes read = [](std::span<const std::byte> bytes) { return read_everything(bytes); };
  refuse_truncations(file, read);
  survive_damage(file, read, 40000);
}

}  // namespace
}  // namespace aoq
