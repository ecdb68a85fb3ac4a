// The classes of bugs that files have been used against in comparable systems, one by one. SECURITY.md lists them with
// the rule that answers each and the tests, here and beside the code, whose names begin with "[class N]".
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "backends/cpu/backend.h"
#include "backends/cpu/kernel_table.h"
#include "formats/aoq/aoq.h"
#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "formats/onnx/importer.h"
#include "formats/safetensors/safetensors.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "passes/pipeline.h"
#include "runtime/session.h"
#include "tests/formats/aoq_patch.h"
#include "tests/formats/mutate.h"
#include "tests/support/folder.h"
#include "tests/support/onnx_builder.h"
#include "tools/machine.h"
#include "tools/output_file.h"

namespace aoq {
namespace {

namespace fs = std::filesystem;
using test::Folder;
using test::OnnxBuilder;
using test::PatchedAoq;

void write(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Outcome {
  int code;
  std::string err;
};
Outcome aoq_program(const Folder& folder, const std::string& arguments) {
  const std::string line = "cd '" + folder.path() + "' && '" AOQ_BINARY "' " + arguments + " >.out 2>.err";
  const int status = std::system(line.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(folder / ".err")};
}

Result<Graph> lowered(const char* text) {
  AOQ_ASSIGN(Graph graph, parse_text(text, {}));
  const std::unique_ptr<TargetInfo> target = tools::make_target();
  PassContext context;
  context.target = target.get();
  AOQ_TRY(run_pipeline(graph, context, {}));
  return graph;
}

constexpr const char* kLinear =
    "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=f32, name=\"x\", shape=[N, 4]}\n"
    "%1 = constant() {value=f32[3, 4]{1, -2, 3, 0.5, 0.25, -1, 7, 8, 9, 10, 11, 12}}\n%2 = linear(%0, %1)\n"
    "output(%2) {names=[\"y\"]}\n";

std::vector<std::byte> linear_file() {
  return write_aoq(lowered(kLinear).value()).value();
}

Status load_and_run(std::span<const std::byte> file, const Tensor& x) {
  AOQ_ASSIGN(std::shared_ptr<const Model> model,
             Model::from_bytes(file, nullptr, tools::model_options({.threads = 1})));
  AOQ_ASSIGN(Session session, Session::create(model));
  const TensorView views[] = {x.view()};
  return session.run(views).status();
}

Tensor ones(std::vector<std::int64_t> shape) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  for (float& v : t.mutable_as<float>()) v = 1.0f;
  return t;
}

std::vector<std::byte> npy_with_shape(const std::string& shape, std::size_t data_bytes) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize((header.size() + 10 + 63) / 64 * 64 - 10, ' ');
  std::string file = "\x93NUMPY\x01";
  file += '\0';
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  return to_bytes(file + header + std::string(data_bytes, '\0'));
}

std::vector<std::byte> safetensors_with(const std::string& shape, const std::string& offsets, std::size_t data_bytes) {
  const std::string header = R"({"w":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[)" + offsets + "]}}";
  std::string file(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(file.data(), &size, 8);
  return to_bytes(file + header + std::string(data_bytes, '\0'));
}

std::vector<std::byte> onnx_with_dims(const std::vector<std::int64_t>& dims, std::size_t values) {
  OnnxBuilder b;
  b.input("x", test::kFloat, {test::DimSpec(1)});
  b.initializer(test::floats("w", dims, std::vector<float>(values)));
  return b.add("Add", {"x", "w"}, {"y"}).output("y").bytes();
}

TEST_CASE("[class 1] products of dimensions that overflow are refused by every reader") {
  constexpr std::int64_t kEdges[] = {
      -1, std::int64_t{1} << 31, std::int64_t{1} << 32, std::int64_t{1} << 62, INT64_MAX, INT64_MIN};
  for (const std::int64_t d : kEdges) {
    for (const std::vector<std::int64_t>& dims : {std::vector<std::int64_t>{d}, {d, d}, {d, 4, d}, {1, d, 2}, {d, 0}}) {
      CAPTURE(shape_to_string(dims));
      const std::string inside = fmt::format("{}", fmt::join(dims, ","));
      // The sizes that these become when the arithmetic wraps.
      for (const std::size_t bytes : {std::size_t{0}, std::size_t{4}, std::size_t{16}}) {
        const bool is_empty = bytes == 0 && d > 0 && dims.back() == 0;
        const Status npy = read_npy(npy_with_shape(inside, bytes)).status();
        CHECK((!npy.ok() || is_empty));
        check_typed(npy);
        const Status safetensors =
            read_safetensors(safetensors_with(inside, fmt::format("0,{}", bytes), bytes)).status();
        CHECK((!safetensors.ok() || is_empty));
        check_typed(safetensors);
        const Status onnx = onnx::import_onnx(onnx_with_dims(dims, bytes / 4)).status();
        CHECK((!onnx.ok() || is_empty));
        check_typed(onnx);
      }
      const std::string text =
          fmt::format("aoqir 1 traced\n%0 = constant() {{value=f32[{}]{{}}}}\noutput(%0) {{names=[\"y\"]}}\n", inside);
      CHECK((!parse_text(text, {}).ok() || dims.back() == 0));
      check_typed(parse_text(text, {}).status());
    }
  }
  // An .aoq file: the dimensions of its one constant.
  PatchedAoq file(linear_file());
  auto* dims = const_cast<flatbuffers::Vector<std::int64_t>*>(file.model().dims());
  for (flatbuffers::uoffset_t i = 0; i < dims->size(); ++i) {
    test::with_extremes<std::uint64_t>(file,
                                       const_cast<std::byte*>(reinterpret_cast<const std::byte*>(dims->Data()) + 8 * i),
                                       0, [&](bool is_old) { CHECK(read_aoq(file.bytes(), nullptr).ok() == is_old); });
  }
  // What the graph itself computes from shapes.
  for (const char* op :
       {"reshape(%0) {shape=[4611686018427387904, 4]}", "expand(%0) {shape=[4611686018427387904, 2, 2, 4]}"}) {
    const std::string text = fmt::format(
        "aoqir 1 traced\n%0 = input() {{dtype=f32, name=\"x\", shape=[1, 4]}}\n%1 = {}\noutput(%1) {{names=[\"y\"]}}\n",
        op);
    Result<Graph> graph = lowered(text.c_str());
    if (!graph.ok()) continue;
    CHECK(!load_and_run(write_aoq(*graph).value(), ones({1, 4})).ok());
  }
}

TEST_CASE("[class 2] an offset and a length that wrap are refused by every reader") {
  constexpr const char* kHuge[] = {"18446744073709551608,18446744073709551615",
                                   "18446744073709551612,0",
                                   "-4,0",
                                   "4,0",
                                   "0,18446744073709551615",
                                   "4294967296,4294967300"};
  for (const char* offsets : kHuge) {
    CAPTURE(offsets);
    CHECK(read_safetensors(safetensors_with("1", offsets, 4)).status().code() == Code::invalid_data);
  }
  std::vector<std::byte> header = safetensors_with("1", "0,4", 4);
  for (const std::uint64_t size : {UINT64_MAX, UINT64_MAX - 7, std::uint64_t{1} << 63}) {
    std::memcpy(header.data(), &size, 8);
    CHECK(!read_safetensors(header).ok());
  }
  // Tensors of an ONNX model in another file: the command line reads them.
  const Folder folder;
  write(folder / "w.bin", std::vector<std::byte>(16));
  for (const auto& [offset, length] :
       {std::pair{"18446744073709551608", "16"}, {"8", "18446744073709551608"}, {"9", "8"}, {"-8", "8"}}) {
    test::Message w = test::Message().integer(1, 2).integer(2, test::kFloat).text(8, "w").integer(14, 1);
    w.message(13, test::Message().text(1, "location").text(2, "w.bin"));
    w.message(13, test::Message().text(1, "offset").text(2, offset));
    w.message(13, test::Message().text(1, "length").text(2, length));
    OnnxBuilder b;
    b.input("x", test::kFloat, {test::DimSpec(2)}).initializer(w).add("Add", {"x", "w"}, {"y"}).output("y");
    write(folder / "m.onnx", b.bytes());
    CHECK(aoq_program(folder, "inspect m.onnx").code == 3);
  }
}

// Every index of a node, an attribute or a tensor of the file.
TEST_CASE("[class 3] every index of an .aoq file") {
  PatchedAoq file(linear_file());
  const fbs::Model& model = file.model();
  auto try_index = [&](const char* what, const std::uint32_t& field, std::uint64_t count) {
    CAPTURE(what);
    auto* place = reinterpret_cast<std::byte*>(const_cast<std::uint32_t*>(&field));
    test::with_extremes<std::uint32_t>(file, place, count, [&](bool) {
      check_typed(read_aoq(file.bytes(), nullptr).status());
      std::uint32_t now;
      std::memcpy(&now, place, 4);
      if (now >= count) CHECK(!read_aoq(file.bytes(), nullptr).ok());
    });
  };
  const std::uint32_t strings = model.strings()->size();
  auto first = [](const auto* list) { return reinterpret_cast<const std::uint32_t*>(list->Data()); };
  for (std::uint32_t i = 0; i < model.nodes()->size() * 8; ++i) {
    const bool is_count = i % 8 >= 1 && i % 8 <= 3;
    try_index("node", first(model.nodes())[i], is_count ? 100 : strings);
  }
  for (std::uint32_t i = 0; i < model.inputs()->size(); ++i)
    try_index("input", first(model.inputs())[i], 1 + model.nodes()->size());
  for (std::uint32_t i = 0; i < model.text()->size(); ++i) try_index("text", first(model.text())[i], strings);
  for (std::uint32_t i = 0; i < model.tensors()->size(); ++i) {
    try_index("dtype", first(model.tensors())[3 * i], strings);
    try_index("rank", first(model.tensors())[3 * i + 1], 9);
    try_index("segment", first(model.tensors())[3 * i + 2], model.segments()->size());
  }
}

TEST_CASE("[class 4] a shape and its bytes must agree to the byte, in every format") {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{23}, std::size_t{25}, std::size_t{16}, std::size_t{32}}) {
    CAPTURE(bytes);
    CHECK(read_npy(npy_with_shape("2,3", bytes)).status().code() == Code::invalid_data);
    CHECK(read_safetensors(safetensors_with("2,3", fmt::format("0,{}", bytes), bytes)).status().code() ==
          Code::invalid_data);
  }
  for (const std::size_t values : {0, 5, 7, 3, 12}) {
    CHECK(onnx::import_onnx(onnx_with_dims({2, 3}, values)).status().code() == Code::invalid_model);
  }
  for (const char* wrong : {"f32[3, 4]{1, 2}", "i4[3]{1, 2}", "i4[3]{1, 2, 3, 4}"}) {
    const std::string text =
        fmt::format("aoqir 1 traced\n%0 = constant() {{value={}}}\noutput(%0) {{names=[\"y\"]}}\n", wrong);
    CHECK(!parse_text(text, {}).ok());
  }
  // Scales and zero points that do not fit what they are for.
  auto quantize_status = [](const char* scales, const char* zero_points) {
    const std::string text = fmt::format(
        "aoqir 1 traced\n%0 = input() {{dtype=f32, name=\"x\", shape=[5, 3]}}\n%1 = constant() {{value=f32{}}}\n"
        "%2 = constant() {{value=i32{}}}\n%3 = quantize(%0, %1, %2) {{granularity=\"axis\", axis=1, dtype=u8}}\n"
        "%4 = dequantize(%3, %1, %2) {{granularity=\"axis\", axis=1}}\noutput(%4) {{names=[\"y\"]}}\n",
        scales, zero_points);
    return parse_text(text, {}).status();
  };
  CHECK(quantize_status("[3]{1, 2, 3}", "[3]{0, 1, 2}").message() == "");
  for (const char* wrong : {"[2]{1, 2}", "[4]{1, 2, 3, 4}", "[0]{}", "[1, 3]{1, 2, 3}"}) {
    CHECK(quantize_status(wrong, "[3]{0, 1, 2}").code() == Code::invalid_model);
    CHECK(quantize_status("[3]{1, 2, 3}", wrong).code() == Code::invalid_model);
  }
}

// A weight that a layout is for, and a layer that reads it.
struct LayoutCase {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> input;
  std::int64_t groups = 1;
  bool is_narrow = false;  // of linear_weight_only
};

LayoutCase case_of(const std::string& layout) {
  if (layout.starts_with("n4")) return {DType::i4, {5, 48}, {1, 48}, 1, true};
  if (layout.starts_with("b8")) return {DType::i8, {5, 48}, {1, 48}, 1, true};
  const DType dtype = layout.starts_with("s8") ? DType::i8 : DType::f32;
  if (layout.find("_wino") != std::string::npos) return {DType::i8, {5, 16, 3, 3}, {1, 16, 8, 8}, 1, false};
  if (layout.find("_dw_split") != std::string::npos) return {dtype, {40, 1, 3, 3}, {1, 40, 8, 8}, 40, false};
  if (layout.find("_dw") != std::string::npos) return {dtype, {5, 1, 3, 3}, {1, 5, 8, 8}, 5, false};
  return {dtype, {5, 6, 3, 3}, {1, 6, 8, 8}, 1, false};
}

// The layer on a packed constant of these bytes; not ok where the op refuses such a weight by its type.
Result<Graph> layer_on_packed(const LayoutCase& c, const std::string& layout, const std::vector<std::byte>& bytes) {
  Graph graph;
  graph.stage = Stage::lowered;
  Value* x = graph.input("x", Type{DType::f32, {c.input.begin(), c.input.end()}, std::nullopt});
  Tensor packed = Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes).value();
  AOQ_ASSIGN(Node * w, graph.create(Op::packed_constant, {},
                                    {{"value", packed}, {"dtype", c.dtype}, {"shape", c.shape}, {"layout", layout}}));
  std::vector<Value*> inputs{x, w->output()};
  if (c.is_narrow) inputs.push_back(graph.constant(ones({5, 1})));
  Attributes attributes{{"groups", c.groups}};
  if (c.is_narrow) attributes = {{"group", std::int64_t{48}}};
  AOQ_ASSIGN(Node * layer, graph.create(c.is_narrow ? Op::linear_weight_only : Op::conv, inputs, attributes));
  AOQ_TRY(graph.output({layer->output()}, {"y"}));
  return graph;
}

// Packed weights: every layout that this build knows, of every wrong size, and with shapes whose size would overflow.
TEST_CASE("[class 4] packed weights of the wrong size are refused before a kernel reads them") {
  const std::shared_ptr<const Backend> backend = tools::make_backend("native").value();
  int layouts = 0;
  for (const cpu::LayoutRow& row : cpu::layout_rows()) {
    const std::string layout(row.name);
    CAPTURE(layout);
    const LayoutCase c = case_of(layout);
    const std::vector<std::byte> good = backend->pack(Tensor::make(c.dtype, c.shape).value(), layout).value();
    REQUIRE(backend->unpack(good, c.dtype, c.shape, layout).ok());
    ++layouts;
    const std::ptrdiff_t size = static_cast<std::ptrdiff_t>(good.size());
    for (const std::ptrdiff_t wrong : {size - 1, size + 1, size - 64, size + 64, size / 2, std::ptrdiff_t{0}}) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(std::max<std::ptrdiff_t>(wrong, 0)));
      CHECK(backend->unpack(bytes, c.dtype, c.shape, layout).status().code() == Code::invalid_model);
      // Through a file and a session; int8 weights of convolutions need a quantized input.
      Result<Graph> graph = layer_on_packed(c, layout, bytes);
      if (!graph.ok()) continue;
      const Status status = load_and_run(write_aoq(*graph).value(), ones(c.input));
      CHECK(!status.ok());
      check_typed(status);
    }
    for (const std::int64_t d : {std::int64_t{1} << 31, std::int64_t{1} << 58, std::int64_t{1} << 62, INT64_MAX,
                                 std::int64_t{0}, std::int64_t{-1}}) {
      for (const std::vector<std::int64_t>& hostile :
           {std::vector<std::int64_t>{d, 1, 1, 1}, {d, 1}, {1, d}, {5, 1, d, d}, {d, d}}) {
        CHECK(!backend->unpack(good, c.dtype, hostile, layout).ok());
        CHECK(!backend->unpack(good, c.dtype, hostile, layout + ".g4611686018427387904").ok());
      }
    }
  }
  CHECK(layouts >= 6);
}

TEST_CASE("[class 5] every whole-number attribute of every op at its extremes") {
  int tried = 0;
  for (const OpDef* def : all_ops()) {
    if (def->has_trait(kStructural)) continue;
    for (const AttributeDef& a : def->attributes) {
      if (a.name == nullptr) break;
      const bool is_list = a.kind == AttributeKind::integers || a.kind == AttributeKind::dims;
      if (a.kind != AttributeKind::integer && !is_list) continue;
      for (const std::int64_t v : {std::int64_t{-1}, std::int64_t{-9}, std::int64_t{0}, std::int64_t{9},
                                   std::int64_t{1} << 31, std::int64_t{1} << 62, INT64_MAX, INT64_MIN}) {
        for (const std::size_t rank : {2, 4}) {
          Graph graph;
          std::vector<Value*> operands;
          for (const InputDef& in : def->inputs) {
            if (in.name == nullptr) break;
            operands.push_back(graph.constant(ones(std::vector<std::int64_t>(rank, 3))));
          }
          Attributes attributes;
          if (a.kind == AttributeKind::integer) attributes.set(a.name, v);
          if (a.kind == AttributeKind::integers) attributes.set(a.name, std::vector<std::int64_t>(2, v));
          if (a.kind == AttributeKind::dims) attributes.set(a.name, std::vector<Dim>(2, Dim(v)));
          Result<Node*> node = graph.create(def->op, operands, attributes);
          check_typed(node.status());
          ++tried;
        }
      }
    }
  }
  CHECK(tried > 500);
}

TEST_CASE("[class 6] divisors of zero, and scales that are no positive finite numbers") {
  // conv with two numbers to fill in: a stride and groups; a pool; quantize with a scale.
  auto refused = [](const std::string& lines) {
    const std::string text = "aoqir 1 traced\n%0 = input() {dtype=f32, name=\"x\", shape=[1, 4, 8, 8]}\n" + lines;
    CAPTURE(text);
    const Status status = parse_text(text, {}).status();
    CHECK(!status.ok());
    check_typed(status);
  };
  for (const char* zero : {"stride=[0, 1]", "stride=[-1, 1]", "groups=0", "groups=-4", "groups=3", "dilation=[0, 1]"}) {
    refused(
        fmt::format("%1 = constant() {{value=f32[1, 4, 1, 1]{{1, 2, 3, 4}}}}\n%2 = conv(%0, %1) {{{}}}\noutput(%2) "
                    "{{names=[\"y\"]}}\n",
                    zero));
  }
  for (const char* zero : {"kernel=[0, 2]", "kernel=[2, 2], stride=[0, 2]", "kernel=[2, 2], dilation=[0, 1]"}) {
    refused(fmt::format("%1 = max_pool(%0) {{{}}}\noutput(%1) {{names=[\"y\"]}}\n", zero));
  }
  for (const char* scale : {"0x0p+0", "-0x1p+0", "nan", "inf", "-inf", "-0x0p+0", "0x1p-1074"}) {
    refused(fmt::format(
        "%1 = quantize(%0) {{dtype=u8, scale={}, zero_point=3}}\n%2 = dequantize(%1)\noutput(%2) {{names=[\"y\"]}}\n",
        scale));
  }
  // A scale that is data.
  const char* text =
      "aoqir 1 traced\n%0 = input() {dtype=f32, name=\"scale\", shape=[]}\n%1 = constant() {value=f32[3]{1, 2, 3}}\n"
      "%2 = constant() {value=i32[]{3}}\n%3 = quantize(%1, %0, %2) {dtype=u8}\n%4 = dequantize(%3, %0, %2)\n"
      "output(%4) {names=[\"y\"]}\n";
  Result<Graph> graph = lowered(text);
  REQUIRE_MESSAGE(graph.ok(), graph.status().message());
  const std::vector<std::byte> file = write_aoq(*graph).value();
  for (const float scale :
       {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0.0f}) {
    CHECK(load_and_run(file, Tensor::from_values<float>(DType::f32, {}, std::vector<float>{scale}).value()).code() ==
          Code::invalid_data);
  }
  CHECK(load_and_run(file, Tensor::from_values<float>(DType::f32, {}, std::vector<float>{0.5f}).value()).message() ==
        "");
  for (const char* dim_text : {"floordiv(N,0)", "ceildiv(N,0)", "floordiv(N,N-3)"}) {
    Result<Dim> dim = Dim::parse(dim_text);
    if (dim.ok()) CHECK(dim->evaluate({{"N", 3}}).status().code() == Code::invalid_model);
  }
}

TEST_CASE("[class 7] an index in data that is out of range is an error of the run, in every backend") {
  const char* text =
      "aoqir 1 traced\n%0 = input() {dtype=i64, name=\"ids\", shape=[3]}\n"
      "%1 = constant() {value=f32[4, 2]{1, 2, 3, 4, 5, 6, 7, 8}}\n%2 = gather(%1, %0) {axis=0}\noutput(%2) "
      "{names=[\"y\"]}\n";
  const std::vector<std::byte> file = write_aoq(lowered(text).value()).value();
  for (const std::int64_t bad : {std::int64_t{4}, std::int64_t{-5}, INT64_MAX, INT64_MIN, std::int64_t{1} << 32}) {
    const Tensor ids = Tensor::from_values<std::int64_t>(DType::i64, {3}, std::vector<std::int64_t>{0, bad, 1}).value();
    const Status status = load_and_run(file, ids);
    CHECK(status.code() == Code::invalid_data);
    CHECK(status.message().find("4") != std::string::npos);  // what would be allowed
  }
  const Tensor good = Tensor::from_values<std::int64_t>(DType::i64, {3}, std::vector<std::int64_t>{0, -4, 3}).value();
  CHECK(load_and_run(file, good).ok());
}

TEST_CASE("[class 8] nesting is limited, and no input makes a reader recurse without end") {
  const std::string deep(100'000, '[');
  CHECK(parse_json(deep).status().code() == Code::resource_limit);
  check_typed(parse_text("aoqir 1 traced\n%0 = input() {dtype=f32, name=\"x\", shape=" + deep + "}\n", {}).status());
  CHECK(!Dim::parse(std::string(100'000, '(') + "N").ok());
  std::string nested_dim = "N";
  for (int i = 0; i < 5000; ++i) nested_dim = "floordiv(" + nested_dim + ",2)";
  check_typed(Dim::parse(nested_dim).status());
  // ONNX: a branch in a branch in a branch ...
  test::Message graph;
  for (int i = 0; i < 1000; ++i) {
    test::Message outer;
    outer.message(
        1, test::node("If", {"c"}, {"y"},
                      {test::graph_attribute("then_branch", graph), test::graph_attribute("else_branch", graph)}));
    if (outer.bytes().size() > 1'000'000) break;
    graph = outer;
  }
  test::Message model;
  model.integer(1, 8).message(7, graph).message(8, test::Message().integer(2, 17));
  check_typed(onnx::import_onnx(to_bytes(model.bytes())).status());
  CHECK(!onnx::import_onnx(to_bytes(model.bytes())).ok());
  // A chain so long that walking it by recursion would end the stack.
  Graph chain;
  Value* v = chain.input("x", Type{DType::f32, {1}, std::nullopt});
  for (int i = 0; i < 200'000; ++i) v = chain.create(Op::relu, {v}).value()->output();
  REQUIRE(chain.output({v}, {"y"}).ok());
  CHECK(verify(chain).ok());
  CHECK(parse_text(print_text(chain).text, {}).ok());
}

TEST_CASE("[class 9] rank 0 to one more than the limit, and values of enumerations that nobody knows") {
  for (std::size_t rank = 0; rank <= kMaxRank + 1; ++rank) {
    CAPTURE(rank);
    const std::vector<std::int64_t> shape(rank, 1);
    const bool fits = rank <= kMaxRank;
    CHECK(Tensor::make(DType::f32, shape).ok() == fits);
    const std::string inside = fmt::format("{}{}", fmt::join(shape, ","), rank == 1 ? "," : "");
    CHECK(read_npy(npy_with_shape(inside, 4)).ok() == fits);
    CHECK(read_safetensors(safetensors_with(fmt::format("{}", fmt::join(shape, ",")), "0,4", 4)).ok() == fits);
    CHECK(
        parse_text(fmt::format("aoqir 1 traced\n%0 = constant() {{value=f32[{}]{{1}}}}\noutput(%0) {{names=[\"y\"]}}\n",
                               fmt::join(shape, ", ")),
                   {})
            .ok() == fits);
    CHECK(onnx::import_onnx(onnx_with_dims(shape, 1)).ok() == fits);
  }
  // The kinds of an attribute, and every data type of ONNX.
  PatchedAoq file(linear_file());
  auto* attributes = reinterpret_cast<std::byte*>(const_cast<std::uint8_t*>(file.model().attributes()->Data()));
  const std::uint32_t count = file.model().attributes()->size();
  for (std::uint32_t i = 0; i < count; ++i) {
    for (std::uint32_t kind = 0; kind <= 255; ++kind) {
      std::uint32_t old;
      std::byte* place = attributes + 12 * i + 4;
      std::memcpy(&old, place, 4);
      std::memcpy(place, &kind, 4);
      file.seal();
      check_typed(read_aoq(file.bytes(), nullptr).status());
      if (kind > static_cast<std::uint32_t>(AttributeKind::tensor)) CHECK(!read_aoq(file.bytes(), nullptr).ok());
      std::memcpy(place, &old, 4);
    }
  }
  for (int type = 0; type <= 255; ++type) {
    OnnxBuilder b;
    b.input("x", test::kFloat, {test::DimSpec(1)}).initializer(test::tensor("w", type, {1}, std::string(16, '\0')));
    check_typed(onnx::import_onnx(b.add("Add", {"x", "w"}, {"y"}).output("y").bytes()).status());
  }
}

TEST_CASE("[class 10] files that a model names lie below its directory, and are files") {
  const Folder folder;
  fs::create_directories(folder / "models/parts");
  write(folder / "secret", std::vector<std::byte>(8, std::byte{42}));
  write(folder / "models/parts/w.bin", std::vector<std::byte>(8));
  const std::string models = folder / "models";
  auto open = [&](const std::string& path) { return MappedFile::open_below(models, path).status(); };
  CHECK(open("parts/w.bin").ok());
  CHECK(open("./parts/./w.bin").ok());
  fs::create_symlink("../secret", folder / "models/link");
  fs::create_directory_symlink("..", folder / "models/up");
  fs::create_directory_symlink("parts", folder / "models/other");  // also one that stays inside
  fs::create_hard_link(folder / "secret", folder / "models/hard");
  REQUIRE(::mkfifo((folder / "models/pipe").c_str(), 0600) == 0);
  for (const std::string& path :
       {std::string("../secret"), std::string("parts/../../secret"), folder / "secret", std::string("link"),
        std::string("up/secret"), std::string("other/w.bin"), std::string("hard"), std::string(),
        std::string("parts//w.bin"), std::string("/"), std::string("parts/w.bin\0x", 13), std::string("w.bin/x")}) {
    CAPTURE(path);
    const Status status = open(path);
    CHECK(!status.ok());
    check_typed(status);
    CHECK((status.code() == Code::invalid_model || status.code() == Code::not_found));
  }
  CHECK(open("pipe").code() == Code::io_error);
  CHECK(open("parts").code() == Code::io_error);
  CHECK(open("none").code() == Code::not_found);
}

TEST_CASE("[class 11] files that carry code are refused, and code is never loaded") {
  const Folder folder;
  // A pickle that would run a command, bare and in an archive that is named as torch.export's.
  const std::string pickle =
      "\x80\x02"
      "cposix\nsystem\nX\x14\0\0\0touch /tmp/aoq-pwned.q\x85R.";
  write(folder / "model.pt2", to_bytes(pickle));
  write(folder / "model.onnx", to_bytes(pickle));
  write(folder / "model.aoq", to_bytes(pickle));
  write(folder / "data.npz", to_bytes(pickle));
  CHECK(aoq_program(folder, "inspect model.pt2").code == 4);
  CHECK(aoq_program(folder, "inspect model.onnx").code == 3);
  CHECK(aoq_program(folder, "inspect model.aoq").code == 3);
  // numpy's arrays of objects are pickles too.
  std::string header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }";
  header.resize(118, ' ');
  CHECK(!read_npy(to_bytes(std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + pickle)).ok());
  // ONNX: an op of a custom library.
  OnnxBuilder b;
  b.input("x", test::kFloat, {test::DimSpec(1)});
  b.add("RunMe", {"x"}, {"y"}, {}, "n", "com.evil").output("y");
  CHECK(onnx::import_onnx(b.bytes()).status().code() == Code::unsupported);
  // A region is a name; its code is in the program, or the file is refused.
  const Status unknown = parse_text(
                             "aoqir 1 traced\n%0 = input() {dtype=f32, name=\"x\", shape=[1]}\n"
                             "%1 = region(%0) {name=\"/lib/evil.so\"}\noutput(%1) {names=[\"y\"]}\n",
                             {})
                             .status();
  CHECK(!unknown.ok());
}

TEST_CASE("[class 15] an exception of any kind becomes an error") {
  CHECK(guarded([]() -> Status { throw std::bad_alloc(); }).code() == Code::resource_limit);
  CHECK(guarded([]() -> Status { throw std::length_error("vector"); }).code() == Code::internal);
  CHECK(guarded([]() -> Status { throw std::runtime_error("x"); }).code() == Code::internal);
}

TEST_CASE("[class 17] what lives longer keeps alive what it needs") {
  const std::vector<std::byte> bytes = linear_file();
  const Folder folder;
  write(folder / "m.aoq", bytes);
  const Tensor x = ones({2, 4});
  const TensorView views[] = {x.view()};
  std::optional<Session> session;
  {
    std::shared_ptr<const Model> model = Model::open(folder / "m.aoq", tools::model_options({.threads = 2})).value();
    session.emplace(Session::create(model).value());
  }
  // The model's handle, its options and its file's name are gone.
  fs::remove(folder / "m.aoq");
  CHECK(session->run(views).ok());
  // Moved twice, and the first one gone.
  Session second = std::move(*session);
  session.reset();
  Session third = std::move(second);
  CHECK(third.run(views).ok());
  second = Session::create(Model::from_bytes(bytes, nullptr, tools::model_options({.threads = 1})).value()).value();
  CHECK(second.run(views).ok());
  // A tensor keeps the file that it reads from.
  write(folder / "w.safetensors", safetensors_with("1", "0,4", 4));
  Tensor kept;
  {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(folder / "w.safetensors").value();
    kept = read_safetensors(file->bytes(), file)->tensors.at(0).tensor;
  }
  CHECK(kept.as<float>()[0] == 0.0f);
}

TEST_CASE("[class 18] sums of products at both ends of int8 are exact") {
  // 4608 products of 255 and -128 overflow 16 bits in pairs, and any sum kept in f32.
  constexpr std::int64_t kDepth = 4608;
  Tensor w = Tensor::make(DType::i8, {17, kDepth}).value();
  std::fill(w.mutable_as<std::int8_t>().begin(), w.mutable_as<std::int8_t>().end(), std::int8_t{-128});
  for (std::size_t row = 0; row < 17; ++row) w.mutable_as<std::int8_t>()[row * kDepth + 7] = -127;
  const std::string text = fmt::format(
      "aoqir 1 quantized\n%0 = input() {{dtype=f32, name=\"x\", shape=[2, {0}]}}\n"
      "%1 = quantize(%0) {{dtype=u8, scale=1, zero_point=0}}\n%2 = dequantize(%1)\n"
      "%3 = constant() {{value=i8[17, {0}]@\"w\"}}\n%4 = constant() {{value=f32[17]@\"s\"}}\n"
      "%5 = dequantize(%3, %4) {{granularity=\"axis\", axis=0}}\n%6 = linear(%2, %5)\noutput(%6) {{names=[\"y\"]}}\n",
      kDepth);
  Result<Graph> parsed = parse_text(text, {{"w", w}, {"s", ones({17})}});
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
  Graph graph = std::move(*parsed);
  const std::unique_ptr<TargetInfo> target = tools::make_target();
  PassContext context;
  context.target = target.get();
  REQUIRE(run_pipeline(graph, context, {}).ok());
  const std::string printed = print_text(graph).text;
  CHECK_MESSAGE(printed.find("qlinear") != std::string::npos, printed);  // integers multiply integers
  Tensor input = Tensor::make(DType::f32, {2, kDepth}).value();
  for (float& v : input.mutable_as<float>()) v = 255.0f;
  // Exact: 255 * (-128 * 4608 + 1) = -150404865, which f32 rounds to a multiple of 16.
  const float expected = static_cast<float>(-128LL * 255 * kDepth + 255);
  const std::vector<std::byte> file = write_aoq(graph).value();
  for (const std::string& name : tools::cpu_classes()) {
    if (name == "portable") continue;
    CAPTURE(name);
    Result<std::shared_ptr<const Backend>> backend = tools::make_backend(name);
    if (!backend.ok()) {
      MESSAGE("[SKIP] no " << name);
      continue;
    }
    ModelOptions options = tools::model_options({.threads = 1});
    options.backends = {*backend};
    Result<std::shared_ptr<const Model>> model = Model::from_bytes(file, nullptr, options);
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    Session session = Session::create(*model).value();
    const TensorView views[] = {input.view()};
    Result<std::span<const TensorView>> out = session.run(views);
    REQUIRE_MESSAGE(out.ok(), out.status().message());
    const auto* values = reinterpret_cast<const float*>((*out)[0].data);
    for (int i = 0; i < 34; ++i) CHECK(values[i] == expected);
  }
}

TEST_CASE("[class 19] a file that changes while it is open") {
  const Folder folder;
  const std::vector<std::byte> bytes = linear_file();
  const std::string path = folder / "m.aoq";
  const Tensor x = ones({2, 4});
  const TensorView views[] = {x.view()};

  SUBCASE("copied: nothing that happens to the file matters") {
    write(path, bytes);
    ModelOptions options = tools::model_options({.threads = 1});
    options.access = FileAccess::copy;
    std::shared_ptr<const Model> model = Model::open(path, options).value();
    REQUIRE(::truncate(path.c_str(), 0) == 0);
    Session session = Session::create(model).value();
    Result<std::span<const TensorView>> out = session.run(views);
    REQUIRE(out.ok());
    CHECK(reinterpret_cast<const float*>((*out)[0].data)[0] == 2.5f);
  }
  SUBCASE("mapped: header and metadata are copied, and a new size is seen") {
    write(path, bytes);
    std::shared_ptr<const MappedFile> file = open_aoq(path).value();
    CHECK(file->check_unchanged().ok());
    REQUIRE(::truncate(path.c_str(), 0) == 0);
    CHECK(read_aoq(file->bytes(), file).ok());  // touches no page of the file
    CHECK(file->check_unchanged().id() == ErrorId::file_changed);
    CHECK(Model::open(path, tools::model_options({})).status().code() == Code::invalid_model);
  }
  SUBCASE("written to in place") {
    write(path, bytes);
    std::shared_ptr<const MappedFile> file = open_aoq(path).value();
    struct timespec times[2] = {{1, 0}, {1, 0}};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
    CHECK(file->check_unchanged().id() == ErrorId::file_changed);
  }
  SUBCASE("the command line ends with an error, not a signal, and leaves no output") {
    // Weights of 64 MB, so that there is time to cut the file off while they are read.
    Graph graph;
    graph.stage = Stage::lowered;
    Value* in = graph.input("x", Type{DType::f32, {1, 4096}, std::nullopt});
    Value* w = graph.constant(Tensor::make(DType::f32, {4096, 4096}).value());
    REQUIRE(graph.output({graph.create(Op::linear, {in, w}).value()->output()}, {"y"}).ok());
    write(path, write_aoq(graph).value());
    write(folder / "x.npy", write_npy(ones({1, 4096})).value());
    const std::string line = "cd '" + folder.path() +
                             "' && { '" AOQ_BINARY
                             "' bench m.aoq --seconds 1 >.out 2>.err & pid=$!; sleep 0.3; truncate -s 4096 m.aoq; wait "
                             "$pid; echo $? >.code; }";
    REQUIRE(std::system(line.c_str()) == 0);
    const std::string code = read(folder / ".code");
    // Cut off before it was opened (3), while it was read (3), or after its weights were packed (0).
    CHECK((code == "3\n" || code == "0\n"));
  }
}

TEST_CASE("[class 19] reading a mapped file that is too short is exit 3 in the command line") {
  // The same handler, at a moment that is certain: a child maps a file, loses it and reads.
  const Folder folder;
  write(folder / "m.bin", std::vector<std::byte>(1 << 20, std::byte{1}));
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    tools::handle_signals();
    std::shared_ptr<const MappedFile> file = MappedFile::open(folder / "m.bin").value();
    if (::truncate((folder / "m.bin").c_str(), 0) != 0) ::_exit(99);
    volatile std::byte b = file->bytes()[1 << 19];
    ::_exit(b == std::byte{1} ? 98 : 97);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
}

// Disk full: a limit on the size of files stands for it, so that it happens at every possible byte.
TEST_CASE("a disk that is full while a model is written leaves the old file") {
  const Folder folder;
  write(folder / "model.aoqir", to_bytes(kLinear));
  CHECK(aoq_program(folder, "compile model.aoqir -o m.aoq").code == 0);
  const std::string before = read(folder / "m.aoq");
  for (const int blocks : {0, 1}) {  // of 512 bytes; the file has more
    for (const std::string& arguments :
         {std::string("compile model.aoqir -o m.aoq"), std::string("import model.aoqir -o out.aoqir")}) {
      const std::string line =
          fmt::format("cd '{}' && (trap '' XFSZ; ulimit -f {}; '" AOQ_BINARY "' {} >/dev/null 2>/dev/null)",
                      folder.path(), blocks, arguments);
      const int status = std::system(line.c_str());
      CAPTURE(line);
      if (arguments.starts_with("import") && blocks == 1 && WEXITSTATUS(status) == 0) continue;  // its text is short
      CHECK(WEXITSTATUS(status) == 3);
      CHECK(read(folder / "m.aoq") == before);
      CHECK(!fs::exists(folder / "out.aoqir"));
    }
  }
  for (const fs::directory_entry& e : fs::directory_iterator(folder.path()))
    CHECK(!e.path().string().ends_with(".partial"));
}

}  // namespace
}  // namespace aoq
