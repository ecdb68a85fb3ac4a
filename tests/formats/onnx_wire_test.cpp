// Hostile ONNX files: whatever the bytes, the reader gives an error or a graph.
#include <doctest/doctest.h>

#include <map>

#include "formats/onnx/importer.h"
#include "tests/support/onnx_builder.h"

namespace aoq {
namespace {

using namespace test;
using onnx::import_onnx;

std::vector<std::byte> small_model() {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec("n"), DimSpec(1), DimSpec(4), DimSpec(4)});
  b.initializer(floats("w", {1, 1, 2, 2}, {1, 2, 3, 4})).initializer(int64s("shape", {2}, {0, -1}));
  b.add("Conv", {"x", "w"}, {"c"},
        {attribute("pads", std::vector<std::int64_t>{1, 1, 0, 0}), attribute("group", std::int64_t{1})},
        "/features/conv/Conv");
  b.add("HardSigmoid", {"c"}, {"r"}, {attribute("alpha", 0.5f)});
  b.add("Reshape", {"r", "shape"}, {"y"}).output("y");
  return b.bytes();
}

Code code_of(const OnnxBuilder& b, const onnx::OnnxOptions& options = {}) {
  return import_onnx(b.bytes(), options).status().code();
}

std::string message_of(const OnnxBuilder& b, const onnx::OnnxOptions& options = {}) {
  return import_onnx(b.bytes(), options).status().message();
}

TEST_CASE("the small model is imported") {
  Result<Graph> graph = import_onnx(small_model());
  CHECK(graph.status().message() == "");
  CHECK(graph.ok());
}

TEST_CASE("a file cut short anywhere is refused") {
  std::vector<std::byte> bytes = small_model();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    // A copy of its own, so that reading past the end is seen by the sanitizer.
    std::vector<std::byte> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_FALSE(import_onnx(part).ok());
  }
}

TEST_CASE("a changed byte gives an error or a graph") {
  std::vector<std::byte> bytes = small_model();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int value :
         {0x00, 0x01, 0x7f, 0x80, 0xff, static_cast<int>(bytes[i]) ^ 0x01, static_cast<int>(bytes[i]) ^ 0x08}) {
      std::vector<std::byte> changed = bytes;
      changed[i] = static_cast<std::byte>(value);
      Result<Graph> graph = import_onnx(changed);
      CHECK((graph.ok() || graph.status().code() != Code::internal));
    }
  }
}

TEST_CASE("bytes that are no protobuf are refused") {
  std::vector<std::byte> noise(64, std::byte{0xff});
  CHECK(import_onnx(noise).status().code() == Code::invalid_model);
  CHECK(import_onnx({}).status().code() == Code::invalid_model);
}

TEST_CASE("a field of the wrong wire type is refused") {
  OnnxBuilder b;
  b.graph().integer(1, 5);  // a node must be a message
  CHECK(code_of(b) == Code::invalid_model);
  OnnxBuilder c;
  c.model().text(1, "eight");  // ir_version
  CHECK(code_of(c) == Code::invalid_model);
}

TEST_CASE("[class 8] messages nested too deeply are refused") {
  Message graph;
  for (int i = 0; i < 100; ++i) {
    Message outer;
    outer.message(1, node("If", {"c"}, {"y"}, {graph_attribute("then_branch", graph)}));
    graph = outer;
  }
  OnnxBuilder b;
  b.graph() = graph;
  CHECK(code_of(b) == Code::resource_limit);
}

TEST_CASE("limits on counts and names hold") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(1)});
  for (int i = 0; i < 5; ++i) b.add("Relu", {i ? "v" + std::to_string(i - 1) : "x"}, {"v" + std::to_string(i)});
  b.output("v4");
  CHECK(code_of(b) == Code::ok);
  onnx::OnnxOptions few;
  few.limits.nodes = 4;
  CHECK(code_of(b, few) == Code::resource_limit);
  onnx::OnnxOptions small;
  small.limits.metadata_bytes = 10;
  CHECK(code_of(b, small) == Code::resource_limit);
  OnnxBuilder name;
  name.input(std::string(2000, 'a'), kFloat, {DimSpec(1)});
  CHECK(code_of(name) == Code::resource_limit);
}

TEST_CASE("[class 4] sizes that do not match or overflow are refused") {
  auto with = [](const Message& t) {
    OnnxBuilder b;
    b.input("x", kFloat, {DimSpec(1)}).initializer(t).add("Add", {"x", "w"}, {"y"}).output("y");
    return code_of(b);
  };
  CHECK(with(floats("w", {1}, {1})) == Code::ok);
  CHECK(with(floats("w", {2}, {1})) == Code::invalid_model);
  CHECK(with(floats("w", {-1}, {1})) == Code::invalid_model);
  CHECK(with(floats("w", {std::int64_t{1} << 62, 4}, {1})) == Code::invalid_model);
  CHECK(with(floats("w", {std::int64_t{1} << 32, std::int64_t{1} << 32}, {1})) == Code::invalid_model);
  CHECK(with(floats("w", {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1})) == Code::resource_limit);
  CHECK(with(tensor("w", 8, {1}, "text")) == Code::unsupported);
  CHECK(with(tensor("w", 77, {1}, "text")) == Code::unsupported);
}

TEST_CASE("[class 14] a huge constant is not made") {
  OnnxBuilder b;
  b.initializer(int64s("shape", {2}, {std::int64_t{1} << 20, std::int64_t{1} << 20}));
  b.add("ConstantOfShape", {"shape"}, {"y"}).output("y");
  onnx::OnnxOptions options;
  options.max_folded_bytes = 1 << 20;
  Result<Graph> graph = import_onnx(b.bytes(), options);
  REQUIRE(graph.ok());
  CHECK(graph->node_count() == 3);  // constant, expand, output
}

TEST_CASE("[class 10] tensors in other files need permission, and a plain path") {
  auto external = [](std::string_view location, std::string_view length) {
    Message t = Message().integer(1, 2).integer(2, kFloat).text(8, "w").integer(14, 1);
    t.message(13, Message().text(1, "location").text(2, location));
    t.message(13, Message().text(1, "offset").text(2, "8"));
    t.message(13, Message().text(1, "length").text(2, length));
    OnnxBuilder b;
    b.input("x", kFloat, {DimSpec(2)}).initializer(t).add("Add", {"x", "w"}, {"y"}).output("y");
    return b;
  };
  CHECK(code_of(external("weights.bin", "8")) == Code::unsupported);
  static const float kValues[] = {1.5f, 2.5f};
  onnx::OnnxOptions options;
  options.external_data = [](std::string_view location, std::uint64_t offset,
                             std::uint64_t length) -> Result<onnx::Blob> {
    CHECK(location == "weights.bin");
    CHECK(offset == 8);
    CHECK(length == 8);
    return onnx::Blob{std::as_bytes(std::span(kValues)), nullptr};
  };
  CHECK(message_of(external("weights.bin", "8"), options) == "");
  CHECK(code_of(external("weights.bin", "12"), options) == Code::invalid_model);
  CHECK(code_of(external("weights.bin", "x"), options) == Code::invalid_model);
  for (std::string_view path : {"", "/etc/passwd", "../w", "a/../../w", "a\\w"}) {
    CHECK(code_of(external(path, "8"), options) == Code::invalid_model);
  }
}

TEST_CASE("wrong graphs are refused with the node and the reason") {
  struct Case {
    const char* what;
    OnnxBuilder model;
    Code code;
    const char* part;
  };
  auto start = [](int opset = 17) {
    OnnxBuilder b(opset);
    b.input("x", kFloat, {DimSpec(2), DimSpec(3)}).output("y");
    return b;
  };
  std::vector<std::int64_t> pair{0, 1};
  const Case cases[] = {
      {"undefined value", start().add("Relu", {"z"}, {"y"}, {}, "r"), Code::invalid_model, "\"r\" (Relu, opset 17)"},
      {"cycle", start().add("Relu", {"b"}, {"a"}).add("Relu", {"a"}, {"b"}).add("Relu", {"b"}, {"y"}),
       Code::invalid_model, "before"},
      {"defined twice", start().add("Relu", {"x"}, {"y"}).add("Relu", {"x"}, {"y"}), Code::invalid_model, "twice"},
      {"too few inputs", start().add("Add", {"x"}, {"y"}), Code::invalid_model, "has 1 inputs, expected 2"},
      {"too many inputs", start().add("Relu", {"x", "x"}, {"y"}), Code::invalid_model, "has 2 inputs"},
      {"too many outputs", start().add("Relu", {"x"}, {"y", "z"}), Code::invalid_model, "has 2 outputs"},
      {"missing attribute", start().add("Concat", {"x", "x"}, {"y"}), Code::invalid_model, "axis is missing"},
      {"attribute kind", start().add("Concat", {"x", "x"}, {"y"}, {attribute("axis", 1.0f)}), Code::invalid_model,
       "kind"},
      {"unknown attribute", start().add("Relu", {"x"}, {"y"}, {attribute("slope", 1.0f)}), Code::unsupported, "slope"},
      {"attribute twice",
       start().add("Concat", {"x", "x"}, {"y"},
                   {attribute("axis", std::int64_t{0}), attribute("axis", std::int64_t{1})}),
       Code::invalid_model, "twice"},
      {"axis out of range", start().add("Concat", {"x", "x"}, {"y"}, {attribute("axis", std::int64_t{9})}),
       Code::invalid_model, "axis"},
      {"perm of the wrong length",
       start().add("Transpose", {"x"}, {"y"}, {attribute("perm", std::vector<std::int64_t>{0})}), Code::invalid_model,
       "perm"},
      {"perm with an axis twice",
       start().add("Transpose", {"x"}, {"y"}, {attribute("perm", std::vector<std::int64_t>{0, 0})}),
       Code::invalid_model, "twice"},
      {"shapes that do not broadcast", start().initializer(floats("w", {2}, {1, 2})).add("Add", {"x", "w"}, {"y"}),
       Code::invalid_model, "broadcast"},
      {"types that differ", start().initializer(int64s("w", {3}, {1, 2, 3})).add("Add", {"x", "w"}, {"y"}),
       Code::invalid_model, "element type"},
      {"reshape to another size", start().initializer(int64s("s", {2}, {4, -1})).add("Reshape", {"x", "s"}, {"y"}),
       Code::invalid_model, "reshape"},
      {"two open dimensions", start().initializer(int64s("s", {2}, {-1, -1})).add("Reshape", {"x", "s"}, {"y"}),
       Code::invalid_model, "two"},
      {"shape from data", start().input("s", kInt64, {DimSpec(2)}).add("Reshape", {"x", "s"}, {"y"}), Code::unsupported,
       "depends on data"},
      {"gather out of range",
       start()
           .initializer(int64s("w", {2}, pair))
           .initializer(int64s("i", {1}, {7}))
           .add("Gather", {"w", "i"}, {"g"})
           .add("Relu", {"x"}, {"y"}),
       Code::invalid_data, "Gather"},
      {"old opset", start(6).add("Relu", {"x"}, {"y"}), Code::unsupported, "too old"},
      {"new opset", start(99).add("Relu", {"x"}, {"y"}), Code::unsupported, "newer"},
      {"no opset", start(0).add("Relu", {"x"}, {"y"}), Code::invalid_model, "op set"},
      {"op newer than the opset", start(12).add("HardSwish", {"x"}, {"y"}), Code::unsupported, "14 to"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    Status status = import_onnx(c.model.bytes()).status();
    CAPTURE(status.message());
    CHECK(status.code() == c.code);
    CHECK(status.message().find(c.part) != std::string::npos);
  }
}

TEST_CASE("all unsupported ops are named at once") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(1)});
  b.add("Loop", {"x"}, {"a"}, {}, "loop")
      .add("Loop", {"a"}, {"b"})
      .add("Frobnicate", {"b"}, {"c"})
      .add("Fancy", {"c"}, {"y"}, {}, "f", "com.example");
  b.output("y");
  Status status = import_onnx(b.bytes()).status();
  CHECK(status.code() == Code::unsupported);
  for (const char* part : {"Loop (2 nodes, first \"loop\"", "Frobnicate (1 node,", "com.example.Fancy"}) {
    CHECK(status.message().find(part) != std::string::npos);
  }
}

TEST_CASE("graph inputs that cannot be told are refused") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(-2)}).add("Relu", {"x"}, {"y"}).output("y");
  CHECK(code_of(b) == Code::invalid_model);
  OnnxBuilder text;
  text.input("x", 8, {DimSpec(2)}).add("Relu", {"x"}, {"y"}).output("y");
  CHECK(code_of(text) == Code::unsupported);
  OnnxBuilder twice;
  twice.input("x", kFloat, {DimSpec(2)}).input("x", kFloat, {DimSpec(2)}).add("Relu", {"x"}, {"y"}).output("y");
  CHECK(code_of(twice) == Code::invalid_model);
  OnnxBuilder none;
  none.input("x", kFloat, {DimSpec(2)}).add("Relu", {"x"}, {"y"});
  CHECK(code_of(none) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
