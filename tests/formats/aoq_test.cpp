#include "formats/aoq/aoq.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "formats/aoq/layout.h"
#include "ir/text.h"
#include "tests/formats/aoq_patch.h"
#include "tests/formats/aoq_sample.h"
#include "tests/formats/mutate.h"

namespace aoq {
namespace {

using aoq_layout::Header;
using test::sample_graph;
using AlignedFile = test::PatchedAoq;

void check_same(const Graph& a, const Graph& b) {
  const GraphText x = print_text(a), y = print_text(b);
  CHECK(x.text == y.text);
  CHECK(hash_constants(x.constants) == hash_constants(y.constants));
  CHECK(a.metadata == b.metadata);
  CHECK(a.symbols == b.symbols);
  REQUIRE(a.node_count() == b.node_count());
  const Node* m = b.first();
  for (const Node* n : a.nodes()) {
    CHECK(n->scope == m->scope);
    CHECK(n->origins == m->origins);
    CHECK(n->requested == m->requested);
    CHECK(n->reason == m->reason);
    REQUIRE(n->attributes().size() == m->attributes().size());
    for (const auto& [name, value] : n->attributes()) {
      REQUIRE(m->attributes().has(name));
      CHECK(equal(value, *m->attributes().find(name)));
    }
    m = m->next();
  }
}

std::vector<std::byte> sample_file(const AoqProvenance& provenance = {}) {
  return write_aoq(sample_graph(), provenance).value();
}

Status read_status(std::span<const std::byte> file, const Limits& limits = {}) {
  return read_aoq(file, nullptr, limits).status();
}

TEST_CASE("a graph comes back whole, with its weights where they lie") {
  const AlignedFile file(sample_file());
  auto owner = std::make_shared<int>(0);
  std::weak_ptr<int> alive = owner;
  {
    Result<Graph> graph = read_aoq(file.bytes(), std::move(owner));
    INFO(graph.status().message());
    REQUIRE(graph.ok());
    check_same(sample_graph(), *graph);
    for (const Node* n : graph->nodes()) {
      const Tensor* t = constant_tensor(n->output_count() > 0 ? n->output() : nullptr);
      if (t == nullptr) continue;
      CHECK(t->bytes().data() >= file.bytes().data());
      CHECK(t->bytes().data() <= file.bytes().data() + file.bytes().size());
      CHECK(reinterpret_cast<std::uintptr_t>(t->bytes().data()) % 64 == 0);
    }
    CHECK(!alive.expired());
  }
  CHECK(alive.expired());
  CHECK(verify_aoq(file.bytes()).ok());
}

TEST_CASE("a file at an odd address is copied") {
  const std::vector<std::byte> file = sample_file();
  std::vector<std::byte> shifted(file.size() + 64);
  for (std::size_t shift : {1, 4, 33}) {
    std::copy(file.begin(), file.end(), shifted.begin() + static_cast<std::ptrdiff_t>(shift));
    Result<Graph> graph = read_aoq(std::span(shifted).subspan(shift, file.size()), nullptr);
    REQUIRE(graph.ok());
    check_same(sample_graph(), *graph);
  }
}

TEST_CASE("the same graph gives the same bytes, also after reading") {
  const AlignedFile file(sample_file());
  CHECK(sample_file() == sample_file());
  const std::vector<std::byte> again = write_aoq(read_aoq(file.bytes(), nullptr).value()).value();
  CHECK(std::equal(again.begin(), again.end(), file.bytes().begin(), file.bytes().end()));
}

TEST_CASE("equal bytes are stored once, and provenance travels") {
  AoqProvenance provenance;
  provenance.entries = {{"recipe", "default"}, {"tool", "aoq 0.1.0"}};
  provenance.json = "{\"layers\": []}";
  Result<AoqSummary> summary = read_aoq_summary(sample_file(provenance));
  REQUIRE(summary.ok());
  CHECK(summary->provenance == provenance);
  CHECK(summary->version == 1);
  CHECK(summary->segments.size() == 4);
}

TEST_CASE("a sink's error ends the writing") {
  int calls = 0;
  Status status = write_aoq(sample_graph(), {}, [&](std::span<const std::byte>) {
    return ++calls == 3 ? error(Code::io_error, "disk full") : Status();
  });
  CHECK(status.code() == Code::io_error);
  CHECK(calls == 3);
}

TEST_CASE("every truncation is refused") {
  refuse_truncations(sample_file(), [](auto file) { return read_status(file); });
}

TEST_CASE("[class 13] appended and prepended bytes are refused") {
  std::vector<std::byte> file = sample_file();
  file.push_back(std::byte{0});
  CHECK(read_status(file).code() == Code::invalid_model);
  file = sample_file();
  file.insert(file.begin(), std::byte{0});
  CHECK(read_status(file).code() == Code::invalid_model);
}

TEST_CASE("every flipped byte is found") {
  AlignedFile file(sample_file());
  const std::span<std::byte> bytes = file.mutable_bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (std::byte mask : {std::byte{0x01}, std::byte{0x80}, std::byte{0xff}}) {
      bytes[i] ^= mask;
      CAPTURE(i);
      CHECK(!verify_aoq(bytes).ok());
      bytes[i] ^= mask;
    }
  }
  CHECK(verify_aoq(bytes).ok());
}

TEST_CASE("[class 3] damaged metadata with the right hash is survived") {
  AlignedFile file(sample_file());
  const std::span<std::byte> bytes = file.mutable_bytes();
  const Header header = file.header();
  for (std::size_t i = sizeof(Header); i < sizeof(Header) + header.metadata_size; ++i) {
    const std::byte old = bytes[i];
    for (int value : {0, 1, 0x7f, 0x80, 0xff, static_cast<int>(old) ^ 1, static_cast<int>(old) + 1}) {
      bytes[i] = static_cast<std::byte>(value);
      file.seal(header);
      check_typed(read_status(bytes));
      check_typed(read_aoq_summary(bytes).status());
    }
    bytes[i] = old;
  }
  // Whole numbers: counts, indices, offsets.
  for (std::size_t i = sizeof(Header); i + 4 <= sizeof(Header) + header.metadata_size; i += 4) {
    std::uint32_t old;
    std::memcpy(&old, bytes.data() + i, 4);
    for (std::uint32_t value : {0u, 1u, old + 1, old - 1, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      std::memcpy(bytes.data() + i, &value, 4);
      file.seal(header);
      check_typed(read_status(bytes));
    }
    std::memcpy(bytes.data() + i, &old, 4);
  }
}

TEST_CASE("every header field is checked") {
  AlignedFile file(sample_file());
  const Header good = file.header();
  auto status_with = [&](auto change) {
    Header header = good;
    change(header);
    header.header_hash = hash_of(header);
    std::memcpy(file.mutable_bytes().data(), &header, sizeof header);
    return read_status(file.bytes());
  };
  CHECK(status_with([](Header&) {}).ok());
  CHECK(status_with([](Header& h) { h.magic[0] = 'x'; }).code() == Code::invalid_model);
  const Status newer = status_with([](Header& h) { h.version = 2; });
  CHECK(newer.code() == Code::unsupported);
  CHECK(newer.message().find("update aoq") != std::string::npos);
  CHECK(status_with([](Header& h) { h.version = 0; }).code() == Code::invalid_model);
  CHECK(status_with([](Header& h) { h.features = 1; }).code() == Code::unsupported);
  CHECK(status_with([](Header& h) { h.features = std::uint64_t{1} << 63; }).code() == Code::unsupported);
  for (std::uint64_t v : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{65},
                          std::uint64_t{1} << 31, std::uint64_t{1} << 32, UINT64_MAX, UINT64_MAX - 63}) {
    CHECK(!status_with([&](Header& h) { h.header_size = static_cast<std::uint32_t>(v); }).ok());
    CHECK(!status_with([&](Header& h) { h.metadata_offset = v; }).ok());
    CHECK(!status_with([&](Header& h) { h.metadata_size = v; }).ok());
    CHECK(!status_with([&](Header& h) { h.metadata_hash = v; }).ok());
    CHECK(!status_with([&](Header& h) { h.file_size = v; }).ok());
  }
}

TEST_CASE("[class 14] limits are enforced and can be set") {
  const std::vector<std::byte> file = sample_file();
  auto refused = [&](auto change) {
    Limits limits;
    change(limits);
    return read_status(file, limits).code() == Code::resource_limit;
  };
  CHECK(refused([](Limits& l) { l.metadata_bytes = 100; }));
  CHECK(refused([](Limits& l) { l.nodes = 3; }));
  CHECK(refused([](Limits& l) { l.tensors = 4; }));
  CHECK(refused([](Limits& l) { l.segments = 2; }));
  CHECK(refused([](Limits& l) { l.name_bytes = 3; }));
  Graph long_name = sample_graph();
  long_name.first()->origins = {std::string(2000, 'n')};
  CHECK(read_status(write_aoq(long_name).value()).code() == Code::resource_limit);
}

TEST_CASE("[class 14] what a graph may take in memory is bounded by its metadata") {
  // 100,000 nodes of few bytes each in the file, and of many in memory.
  Graph chain;
  Value* v = chain.input("x", Type{DType::f32, {1}, std::nullopt});
  for (int i = 0; i < 100'000; ++i) v = chain.create(Op::relu, {v}).value()->output();
  REQUIRE(chain.output({v}, {"y"}).ok());
  const std::vector<std::byte> file = write_aoq(chain).value();
  const Status refused = read_status(file);
  CHECK(refused.code() == Code::resource_limit);
  CHECK(refused.message().find("graph_bytes") != std::string::npos);
  Limits limits;
  limits.graph_bytes = std::uint64_t{1} << 30;
  CHECK(read_status(file, limits).ok());
}

TEST_CASE("[class 14] provenance that repeats one long string is bounded") {
  AoqProvenance provenance;
  const std::string text(1'000'000, 't');
  for (int i = 0; i < 100; ++i) provenance.entries[fmt::format("k{}", i)] = text;
  const std::vector<std::byte> file = sample_file(provenance);
  CHECK(file.size() < 1'100'000);
  CHECK(read_aoq_summary(file).status().code() == Code::resource_limit);
  CHECK(verify_aoq(file).code() == Code::resource_limit);
}

TEST_CASE("dimensions that would explode are refused quickly") {
  std::string text;
  for (int i = 0; i < 50; ++i) text += (i ? "*" : "") + fmt::format("floordiv(a{}+b,1)", i);
  Result<Dim> dim = Dim::parse(text);
  CHECK((!dim.ok() || !dim->evaluate({}).ok() || dim->is_constant()));
}

TEST_CASE("a graph that breaks a rule of the IR is refused") {
  Graph no_output;
  no_output.input("x", Type{DType::f32, {1}, std::nullopt});
  CHECK(read_status(write_aoq(no_output).value()).code() == Code::invalid_model);
  Graph early = sample_graph();
  early.stage = Stage::traced;  // packed_constant is for lowered graphs
  CHECK(read_status(write_aoq(early).value()).code() == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
