// What imported graphs look like and what they compute.
#include <doctest/doctest.h>

#include "formats/onnx/importer.h"
#include "ir/interpreter.h"
#include "tests/support/onnx_builder.h"

namespace aoq {
namespace {

using namespace test;
using onnx::import_onnx;
using onnx::OnnxOptions;

Graph imported(const OnnxBuilder& b, const OnnxOptions& options = {}) {
  Result<Graph> graph = import_onnx(b.bytes(), options);
  CAPTURE(graph.status().message());
  REQUIRE(graph.ok());
  return std::move(graph).value();
}

// The ops of the graph in order, without inputs, constants and the output.
std::string ops_of(const Graph& graph) {
  std::string text;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::input) || n->is(Op::constant) || n->is(Op::output)) continue;
    text += (text.empty() ? "" : " ") + std::string(n->def().name);
  }
  return text;
}

const Node* only(const Graph& graph, Op op) {
  const Node* found = nullptr;
  for (const Node* n : graph.nodes()) {
    if (!n->is(op)) continue;
    CHECK(found == nullptr);
    found = n;
  }
  REQUIRE(found != nullptr);
  return found;
}

std::string output_type(const Graph& graph, std::size_t i = 0) {
  return to_string(graph.output_node()->input(i)->type());
}

Tensor f32(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return Tensor::from_values<float>(DType::f32, std::move(shape), values).value();
}

std::vector<Tensor> run(const Graph& graph, const std::vector<Tensor>& inputs) {
  ReferenceExecutor executor;
  Result<std::unique_ptr<Executable>> executable = executor.prepare(graph);
  REQUIRE(executable.ok());
  Result<std::vector<Tensor>> results = (*executable)->run(inputs, Tap{});
  CAPTURE(results.status().message());
  REQUIRE(results.ok());
  return *results;
}

std::vector<float> values(const Tensor& t) {
  return {t.as<float>().begin(), t.as<float>().end()};
}
std::vector<std::int64_t> integers(const Tensor& t) {
  return {t.as<std::int64_t>().begin(), t.as<std::int64_t>().end()};
}

TEST_CASE("nodes keep their scope and origin, the model its metadata") {
  OnnxBuilder b;
  b.model().text(2, "maker").text(3, "1.2").message(14, Message().text(1, "alphabet").text(2, "abc"));
  b.input("x", kFloat, {DimSpec("n"), DimSpec(3)});
  b.add("Relu", {"x"}, {"r"}, {}, "/features/features.0/Relu").add("Tanh", {"r"}, {"y"}).output("y");
  Graph graph = imported(b);
  const Node* relu = only(graph, Op::relu);
  CHECK(relu->scope.path == "features.features.0");
  CHECK(relu->scope.type == "Relu");
  CHECK(relu->label() == "/features/features.0/Relu");
  CHECK(only(graph, Op::tanh)->label() == "y");
  CHECK(graph.metadata.at("onnx.opset") == "17");
  CHECK(graph.metadata.at("onnx.producer") == "maker 1.2");
  CHECK(graph.metadata.at("meta.alphabet") == "abc");
}

TEST_CASE("dimensions: names are symbols, unnamed and \"?\" ones are apart, bound ones are numbers") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec("batch size"), DimSpec("?"), DimSpec("?"), DimSpec(-1), DimSpec("")});
  b.add("Relu", {"x"}, {"y"}).output("y");
  CHECK(output_type(imported(b)) == "f32[batch_size, x_1, x_2, x_3, x_4]");
  OnnxOptions options;
  options.bind = {{"batch size", 2}, {"x_2", 48}};
  Graph bound = imported(b, options);
  CHECK(output_type(bound) == "f32[2, x_1, 48, x_3, x_4]");
  CHECK(bound.symbols.size() == 3);
  options = {};
  options.input_shapes["x"] = {Dim::symbol("b"), 1, 2, 3, 4};
  CHECK(output_type(imported(b, options)) == "f32[b, 1, 2, 3, 4]");
}

TEST_CASE("shape arithmetic leaves no nodes") {
  OnnxBuilder b(11);
  b.input("x", kFloat, {DimSpec("n"), DimSpec("t"), DimSpec(8)});
  b.initializer(int64s("zero", {}, {0})).initializer(int64s("one", {}, {1})).initializer(int64s("two", {1}, {2}));
  b.initializer(int64s("open", {1}, {-1}));
  b.add("Shape", {"x"}, {"s"}).add("Gather", {"s", "zero"}, {"n"}).add("Gather", {"s", "one"}, {"t"});
  b.add("Unsqueeze", {"n"}, {"n1"}, {attribute("axes", std::vector<std::int64_t>{0})});
  b.add("Unsqueeze", {"t"}, {"t1"}, {attribute("axes", std::vector<std::int64_t>{0})});
  b.add("Mul", {"t1", "two"}, {"t2"}).add("Cast", {"t2"}, {"t3"}, {attribute("to", std::int64_t{kInt32})});
  b.add("Cast", {"t3"}, {"t4"}, {attribute("to", std::int64_t{kInt64})});
  b.add("Concat", {"n1", "t4", "open"}, {"shape"}, {attribute("axis", std::int64_t{0})});
  b.add("Reshape", {"x", "shape"}, {"y"}).output("y");
  Graph graph = imported(b);
  CHECK(ops_of(graph) == "reshape");
  CHECK(output_type(graph) == "f32[n, 2*t, 4]");
}

TEST_CASE("a shape that the model gives out is made at run time") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec("n"), DimSpec(3)});
  b.add("Shape", {"x"}, {"s"}).add("Size", {"x"}, {"z"}).output("s", kInt64).output("z", kInt64);
  Graph graph = imported(b);
  CHECK(ops_of(graph) == "dims dims reshape");
  std::vector<Tensor> results = run(graph, {f32({2, 3}, {1, 2, 3, 4, 5, 6})});
  CHECK(integers(results[0]) == std::vector<std::int64_t>{2, 3});
  CHECK(integers(results[1]) == std::vector<std::int64_t>{6});
  CHECK(results[1].shape().empty());
}

TEST_CASE("a condition on shapes picks a branch, one on data is refused") {
  auto branch = [](std::string_view op) {
    Message g;
    g.message(1, node(op, {"x"}, {"inner"})).message(12, value_info("inner", kFloat, {}));
    return g;
  };
  auto model = [&](const char* what) {
    OnnxBuilder b;
    b.input("x", kFloat, {DimSpec("n"), DimSpec(3)}).input("flag", kBool, {});
    b.initializer(int64s("one", {1}, {1})).initializer(int64s("three", {1}, {3})).initializer(int64s("none", {1}, {0}));
    b.add("Shape", {"x"}, {"s"}).add("Gather", {"s", what[0] == 'n' ? "none" : "one"}, {"d"});
    b.add("Equal", {"d", what[0] == 'n' ? "none" : "three"}, {"c"});
    b.add("If", {what[0] == 'd' ? "flag" : "c"}, {"y"},
          {graph_attribute("then_branch", branch("Relu")), graph_attribute("else_branch", branch("Tanh"))});
    b.output("y");
    return b;
  };
  CHECK(ops_of(imported(model("equal"))) == "relu");
  CHECK(ops_of(imported(model("never"))) == "tanh");  // a symbol stands for 1 and more, so n is not 0
  Status status = import_onnx(model("data").bytes()).status();
  CHECK(status.code() == Code::unsupported);
}

TEST_CASE("softmax before opset 13 runs over all dimensions from the axis on") {
  for (int opset : {11, 13}) {
    OnnxBuilder b(opset);
    b.input("x", kFloat, {DimSpec(1), DimSpec(2), DimSpec(2)});
    b.add("Softmax", {"x"}, {"y"}, {attribute("axis", std::int64_t{1})}).output("y");
    Graph graph = imported(b);
    CHECK(ops_of(graph) == (opset == 11 ? "reshape softmax reshape" : "softmax"));
    float expected = opset == 11 ? 0.25f : 0.5f;
    CHECK(values(run(graph, {f32({1, 2, 2}, {1, 1, 1, 1})})[0]) == std::vector<float>(4, expected));
  }
}

TEST_CASE("products with constant matrices are linear, with everything constant folded in") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec("n"), DimSpec(2)});
  b.initializer(floats("w", {2, 3}, {1, 2, 3, 4, 5, 6})).initializer(floats("c", {1}, {10}));
  b.add("Gemm", {"x", "w", "c"}, {"y"}, {attribute("alpha", 2.0f), attribute("beta", 0.5f)})
      .add("MatMul", {"x", "w"}, {"z"});
  b.output("y").output("z");
  Graph graph = imported(b);
  CHECK(ops_of(graph) == "linear linear");
  // Transposed, the matrix is still the initializer; with a factor it is not.
  std::vector<std::string> weights;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::linear)) weights.push_back(n->input(1)->def()->label());
  }
  CHECK(std::count(weights.begin(), weights.end(), "w") == 1);
  std::vector<Tensor> results = run(graph, {f32({1, 2}, {1, 1})});
  CHECK(values(results[0]) == std::vector<float>{15, 19, 23});
  CHECK(values(results[1]) == std::vector<float>{5, 7, 9});
}

TEST_CASE("gemm of two inputs keeps its factors") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(2), DimSpec(1)})
      .input("w", kFloat, {DimSpec(1), DimSpec(2)})
      .input("c", kFloat, {DimSpec(1)});
  b.add("Gemm", {"x", "w", "c"}, {"y"},
        {attribute("alpha", 2.0f), attribute("transA", std::int64_t{1}), attribute("transB", std::int64_t{1})});
  b.output("y");
  Graph graph = imported(b);
  CHECK(ops_of(graph) == "permute permute matmul mul add");
  CHECK(values(run(graph, {f32({2, 1}, {1, 2}), f32({1, 2}, {3, 4}), f32({1}, {5})})[0]) == std::vector<float>{27});
}

TEST_CASE("constants are folded, quantize and dequantize are not") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(2)});
  b.initializer(floats("w", {1, 2}, {1, -2})).initializer(floats("scale", {}, {0.5f}));
  b.initializer(tensor("zero", kUint8, {}, std::string_view("\x03", 1)));
  b.add("Transpose", {"w"}, {"t"}).add("Neg", {"t"}, {"u"});
  b.add("Squeeze", {"u"}, {"v"}).add("Add", {"x", "v"}, {"a"});
  b.add("QuantizeLinear", {"a", "scale", "zero"}, {"q"})
      .add("DequantizeLinear", {"q", "scale", "zero"}, {"y"})
      .output("y");
  Graph graph = imported(b);
  CHECK(ops_of(graph) == "add quantize dequantize");
  CHECK(values(run(graph, {f32({2}, {1.25f, 1.3f})})[0]) == std::vector<float>{0.0f, 3.5f});
}

TEST_CASE("initializers that are inputs too are constants unless asked otherwise") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(2)}).input("w", kFloat, {DimSpec(2)}).initializer(floats("w", {2}, {1, 2}));
  b.add("Add", {"x", "w"}, {"y"}).output("y");
  CHECK(imported(b).input_nodes().size() == 1);
  OnnxOptions options;
  options.initializer_inputs = OnnxOptions::InitializerInputs::inputs;
  CHECK(imported(b, options).input_nodes().size() == 2);
}

TEST_CASE("inputs that nothing reads stay") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(2)}).input("unused", kInt64, {}).add("Relu", {"x"}, {"y"}).output("y");
  CHECK(imported(b).input_nodes().size() == 2);
}

TEST_CASE("large initializers are read in place when an owner keeps the file") {
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec(4096)});
  b.initializer(floats("w", {4096}, std::vector<float>(4096, 1.0f))).add("Add", {"x", "w"}, {"y"}).output("y");
  auto file = std::make_shared<std::vector<std::byte>>(b.bytes());
  OnnxOptions options;
  options.owner = file;
  for (int shift = 0; shift < 4; ++shift) {
    // Protobuf does not align: one of four positions does.
    auto moved = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(shift), std::byte{});
    moved->insert(moved->end(), file->begin(), file->end());
    options.owner = moved;
    Result<Graph> graph = import_onnx(std::span(*moved).subspan(static_cast<std::size_t>(shift)), options);
    REQUIRE(graph.ok());
    const Tensor& w = only(*graph, Op::constant)->attributes().tensor("value");
    bool is_inside = w.bytes().data() >= moved->data() && w.bytes().data() < moved->data() + moved->size();
    std::span<const std::byte> contents = std::as_bytes(w.as<float>());
    CHECK(contents.size() == 4096 * 4);
    CHECK(w.as<float>()[4095] == 1.0f);
    if (is_inside) CHECK(reinterpret_cast<std::uintptr_t>(w.bytes().data()) % 4 == 0);
  }
}

TEST_CASE("slices are clamped, also where dimensions are symbols") {
  auto sliced = [](std::vector<std::int64_t> start, std::vector<std::int64_t> end, std::vector<std::int64_t> step) {
    OnnxBuilder b(13);
    b.input("x", kFloat, {DimSpec("n")});
    b.initializer(int64s("s", {1}, start)).initializer(int64s("e", {1}, end)).initializer(int64s("a", {1}, {0}));
    b.initializer(int64s("p", {1}, step)).add("Slice", {"x", "s", "e", "a", "p"}, {"y"}).output("y");
    return values(run(imported(b), {f32({4}, {0, 1, 2, 3})})[0]);
  };
  using V = std::vector<float>;
  CHECK(sliced({0}, {INT64_MAX}, {1}) == V{0, 1, 2, 3});
  CHECK(sliced({1}, {3}, {1}) == V{1, 2});
  CHECK(sliced({-3}, {-1}, {1}) == V{1, 2});
  CHECK(sliced({2}, {100}, {1}) == V{2, 3});
  CHECK(sliced({-1}, {INT64_MIN}, {-1}) == V{3, 2, 1, 0});
  CHECK(sliced({-100}, {2}, {1}) == V{0, 1});
  CHECK(sliced({3}, {0}, {-2}) == V{3, 1});
  CHECK(sliced({3}, {1}, {1}) == V{});
}

TEST_CASE("old and new forms of an op give the same nodes") {
  OnnxBuilder old(7);
  old.input("x", kFloat, {DimSpec(2), DimSpec(4)});
  old.add("Clip", {"x"}, {"c"}, {attribute("min", 0.0f), attribute("max", 6.0f)});
  old.add("Pad", {"c"}, {"p"}, {attribute("pads", std::vector<std::int64_t>{0, 1, 0, 0})});
  old.add("Slice", {"p"}, {"s"},
          {attribute("starts", std::vector<std::int64_t>{1}), attribute("ends", std::vector<std::int64_t>{3}),
           attribute("axes", std::vector<std::int64_t>{1})});
  old.add("ReduceMean", {"s"}, {"y"}, {attribute("axes", std::vector<std::int64_t>{1})}).output("y");
  OnnxBuilder recent(18);
  recent.input("x", kFloat, {DimSpec(2), DimSpec(4)});
  recent.initializer(floats("low", {}, {0}))
      .initializer(floats("high", {}, {6}))
      .initializer(int64s("pads", {4}, {0, 1, 0, 0}));
  recent.initializer(int64s("start", {1}, {1}))
      .initializer(int64s("end", {1}, {3}))
      .initializer(int64s("axis", {1}, {1}));
  recent.add("Clip", {"x", "low", "high"}, {"c"}).add("Pad", {"c", "pads"}, {"p"});
  recent.add("Slice", {"p", "start", "end", "axis"}, {"s"}).add("ReduceMean", {"s", "axis"}, {"y"}).output("y");
  Tensor x = f32({2, 4}, {-1, 2, 7, 9, 1, 2, 3, 4});
  Graph a = imported(old);
  Graph b = imported(recent);
  CHECK(ops_of(a) == "clamp pad slice reduce_mean");
  CHECK(ops_of(a) == ops_of(b));
  CHECK(values(run(a, {x})[0]) == values(run(b, {x})[0]));
}

TEST_CASE("auto_pad becomes explicit padding") {
  auto pads = [](std::string_view mode, std::int64_t stride) {
    OnnxBuilder b;
    b.input("x", kFloat, {DimSpec("n"), DimSpec(1), DimSpec(5)}).initializer(floats("w", {1, 1, 2}, {1, 1}));
    b.add("Conv", {"x", "w"}, {"y"},
          {attribute("auto_pad", mode), attribute("strides", std::vector<std::int64_t>{stride})})
        .output("y");
    return only(imported(b), Op::conv)->attributes().integers("pads");
  };
  using V = std::vector<std::int64_t>;
  CHECK(pads("SAME_UPPER", 1) == V{0, 1});
  CHECK(pads("SAME_LOWER", 1) == V{1, 0});
  CHECK(pads("SAME_UPPER", 2) == V{0, 1});
  CHECK(pads("VALID", 1) == V{0, 0});
}

}  // namespace
}  // namespace aoq
