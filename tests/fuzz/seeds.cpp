// fuzz_seeds DIR: writes a seed corpus and a dictionary for every fuzz target, made from the project's own writers and
// tables: DIR/<target>/seed-<n> and DIR/<target>.dict.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "formats/aoq/aoq.h"
#include "formats/npy/npy.h"
#include "formats/safetensors/safetensors.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "tests/backends/cpu/rows_cases.h"
#include "tests/support/onnx_builder.h"

namespace aoq {
namespace {

namespace fs = std::filesystem;

class Corpus {
 public:
  Corpus(const fs::path& dir, const std::string& target) : dir_(dir / target) { fs::create_directories(dir_); }
  void add(std::span<const std::byte> bytes) {
    std::ofstream(dir_ / fmt::format("seed-{:03}", count_++), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }

 private:
  fs::path dir_;
  int count_ = 0;
};

void write_dictionary(const fs::path& dir, const std::string& target, const std::set<std::string>& words) {
  std::ofstream out(dir / (target + ".dict"));
  for (const std::string& word : words) {
    std::string escaped;
    for (unsigned char c : word) {
      const bool is_plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
      escaped += is_plain ? std::string(1, static_cast<char>(c)) : fmt::format("\\x{:02x}", c);
    }
    if (!escaped.empty()) out << '"' << escaped << "\"\n";
  }
}

// What every reader of graphs may meet.
std::set<std::string> names_of_the_ir() {
  std::set<std::string> words;
  for (const OpDef* def : all_ops()) {
    words.insert(def->name);
    for (const InputDef& in : def->inputs) {
      if (in.name != nullptr) words.insert(in.name);
    }
    for (const AttributeDef& a : def->attributes) {
      if (a.name != nullptr) words.insert(a.name);
    }
  }
  for (const DTypeInfo& d : all_dtypes()) words.emplace(d.name);
  for (const char* w : {"traced", "prepared", "quantized", "lowered", "none", "relu", "clamp", "floordiv(", "ceildiv(",
                        "min(", "max(", "N*8 + 4"}) {
    words.insert(w);
  }
  return words;
}

template <class T>
std::string little_endian(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::set<std::string> numbers() {
  std::set<std::string> words;
  for (std::uint64_t v : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x7fffffff}, std::uint64_t{0x80000000},
                          std::uint64_t{0xffffffff}, std::uint64_t{1} << 32, std::uint64_t{1} << 62,
                          std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    words.insert(little_endian(v));
    words.insert(little_endian(static_cast<std::uint32_t>(v)));
  }
  return words;
}

std::set<std::string> joined(std::set<std::string> a, const std::set<std::string>& b) {
  a.insert(b.begin(), b.end());
  return a;
}

// A graph of one node for every op that has kernels of its own.
std::vector<Graph> one_node_graphs() {
  std::vector<Graph> graphs;
  for (const OpDef* def : all_ops()) {
    for (unsigned seed = 1; seed <= 2; ++seed) {
      cpu::test::Draw draw(seed);
      cpu::test::Case c;
      if (!cpu::test::generate(draw, def->op, &c)) break;
      Result<Node*> node = c.graph.create(def->op, c.values, c.attributes);
      if (!node.ok()) continue;
      std::vector<Value*> results;
      std::vector<std::string> names;
      for (std::size_t i = 0; i < (*node)->output_count(); ++i) {
        results.push_back((*node)->output(i));
        names.push_back(fmt::format("y{}", i));
      }
      (*node)->scope = {"block.0", "Block"};
      (*node)->origins = {fmt::format("/block.0/{}", def->name)};
      if (c.graph.output(results, names).ok()) graphs.push_back(std::move(c.graph));
    }
  }
  return graphs;
}

void graphs(const fs::path& dir) {
  Corpus aoq_corpus(dir, "aoq"), text_corpus(dir, "text");
  AoqProvenance provenance{{{"recipe", "default"}, {"version", "1"}}, "{\"a\": 1}"};
  for (Graph& g : one_node_graphs()) {
    g.symbols["N"] = {1, 64};
    g.metadata["licence"] = "Apache-2.0";
    const GraphText text = print_text(g);
    // Weights beside the text are not the target's: such text only reads as far as there.
    text_corpus.add(text.text);
    Result<std::vector<std::byte>> file = write_aoq(g, provenance);
    if (file.ok() && file->size() < 20000) aoq_corpus.add(*file);
  }
  text_corpus.add(
      "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=f32, name=\"x\", shape=[N, 4]}\n%1 = constant() "
      "{value=f32[4, 4]@\"w\"}\n%2 = linear(%0, %1) {activation=\"relu\"}\n%3 = reshape(%2) {shape=[N*4]}\noutput(%3) "
      "{names=[\"y\"]}\n");
  write_dictionary(dir, "aoq", joined(names_of_the_ir(), numbers()));
  std::set<std::string> syntax = names_of_the_ir();
  for (const char* w : {"aoqir 1 ",
                        "graph ",
                        "symbol N [1, 64]",
                        "meta ",
                        "weights ",
                        " = ",
                        "output(",
                        "names=[",
                        "@\"w\"",
                        "scope(",
                        "origins(",
                        "requested(",
                        "reason(",
                        "-1",
                        "0x1p-4",
                        "inf",
                        "nan",
                        "9223372036854775807",
                        "-9223372036854775808",
                        "2147483648",
                        "%0",
                        "_",
                        "// "}) {
    syntax.insert(w);
  }
  write_dictionary(dir, "text", syntax);
}

void onnx_files(const fs::path& dir) {
  using namespace test;
  Corpus corpus(dir, "onnx");
  auto unary = [&](const char* op, std::vector<Message> attributes = {}) {
    OnnxBuilder b;
    b.input("x", kFloat, {DimSpec("n"), DimSpec(2), DimSpec(4), DimSpec(4)})
        .add(op, {"x"}, {"y"}, attributes)
        .output("y");
    corpus.add(b.bytes());
  };
  for (const char* op : {"Relu", "Softmax", "Shape", "Flatten", "GlobalAveragePool", "Transpose", "Size", "ReduceMean",
                         "Squeeze", "Erf", "HardSwish", "Celu", "Cast"}) {
    unary(op);
  }
  unary("MaxPool", {attribute("kernel_shape", std::vector<std::int64_t>{2, 2}), attribute("auto_pad", "SAME_UPPER")});
  unary("AveragePool",
        {attribute("kernel_shape", std::vector<std::int64_t>{2, 2}), attribute("ceil_mode", std::int64_t{1})});
  unary("Concat", {attribute("axis", std::int64_t{1})});
  OnnxBuilder conv;
  conv.input("x", kFloat, {DimSpec("n"), DimSpec(1), DimSpec(4), DimSpec(4)});
  conv.initializer(floats("w", {1, 1, 2, 2}, {1, 2, 3, 4})).initializer(int64s("shape", {2}, {0, -1}));
  conv.add("Conv", {"x", "w"}, {"c"}, {attribute("pads", std::vector<std::int64_t>{1, 1, 0, 0})});
  conv.add("BatchNormalization", {"c", "s", "s", "s", "s"}, {"b"}).initializer(floats("s", {1}, {1}));
  conv.add("Reshape", {"b", "shape"}, {"y"}).output("y");
  corpus.add(conv.bytes());
  OnnxBuilder shape;
  shape.input("x", kFloat, {DimSpec("n"), DimSpec(6)})
      .initializer(int64s("zero", {1}, {0}))
      .initializer(int64s("axes", {1}, {0}));
  shape.initializer(int64s("two", {1}, {2}));
  shape.add("Shape", {"x"}, {"s"}).add("Gather", {"s", "zero"}, {"n0"}).add("Div", {"n0", "two"}, {"h"});
  shape.add("Concat", {"h", "two"}, {"c"}, {attribute("axis", std::int64_t{0})}).add("ConstantOfShape", {"c"}, {"z"});
  shape.add("Slice", {"x", "zero", "two", "axes"}, {"t"}).output("z").output("t");
  corpus.add(shape.bytes());
  OnnxBuilder quant;
  quant.input("x", kFloat, {DimSpec(2), DimSpec(3)}).initializer(floats("s", {}, {0.5f}));
  quant.initializer(tensor("z", kInt8, {}, std::string_view("\x01", 1))).add("QuantizeLinear", {"x", "s", "z"}, {"q"});
  quant.add("DequantizeLinear", {"q", "s", "z"}, {"d"}).initializer(floats("m", {3, 2}, {1, 2, 3, 4, 5, 6}));
  quant.add("Gemm", {"d", "m"}, {"y"}, {attribute("alpha", 0.5f), attribute("transA", std::int64_t{0})}).output("y");
  corpus.add(quant.bytes());
  OnnxBuilder branch;
  Message then_graph;
  then_graph.message(1, node("Constant", {}, {"t"}, {tensor_attribute("value", floats("", {1}, {1}))}));
  then_graph.text(2, "then").message(12, value_info("t", kFloat, {DimSpec(1)}));
  branch.initializer(tensor("c", kBool, {1}, std::string_view("\x01", 1)));
  branch.add("If", {"c"}, {"y"},
             {graph_attribute("then_branch", then_graph), graph_attribute("else_branch", then_graph)});
  branch.output("y");
  corpus.add(branch.bytes());
  std::set<std::string> words = numbers();
  for (const char* w : {"Add",
                        "Mul",
                        "Div",
                        "Sub",
                        "Pow",
                        "Conv",
                        "ConvTranspose",
                        "ConvInteger",
                        "Gemm",
                        "MatMul",
                        "Relu",
                        "Clip",
                        "LSTM",
                        "GRU",
                        "RNN",
                        "Resize",
                        "Upsample",
                        "Reshape",
                        "Shape",
                        "Slice",
                        "Split",
                        "Squeeze",
                        "Unsqueeze",
                        "Expand",
                        "Tile",
                        "Range",
                        "Gather",
                        "GatherND",
                        "GatherElements",
                        "ScatterND",
                        "ScatterElements",
                        "Where",
                        "Pad",
                        "OneHot",
                        "TopK",
                        "CumSum",
                        "Einsum",
                        "LayerNormalization",
                        "InstanceNormalization",
                        "GroupNormalization",
                        "QLinearConv",
                        "QLinearMatMul",
                        "MatMulInteger",
                        "DynamicQuantizeLinear",
                        "QuantizeLinear",
                        "DequantizeLinear",
                        "axis",
                        "axes",
                        "perm",
                        "pads",
                        "strides",
                        "dilations",
                        "group",
                        "kernel_shape",
                        "auto_pad",
                        "SAME_LOWER",
                        "VALID",
                        "ceil_mode",
                        "to",
                        "value",
                        "equation",
                        "ij,jk->ik",
                        "mode",
                        "linear",
                        "cubic",
                        "hidden_size",
                        "direction",
                        "bidirectional",
                        "ai.onnx.ml",
                        "com.microsoft",
                        "location",
                        "offset",
                        "length",
                        "../x",
                        "/etc/passwd"}) {
    words.insert(w);
  }
  write_dictionary(dir, "onnx", words);
}

void archives(const fs::path& dir) {
  Corpus npz(dir, "npz"), safetensors(dir, "safetensors");
  std::vector<NamedTensor> arrays;
  for (DType d : {DType::f32, DType::i64, DType::boolean, DType::u8, DType::f16}) {
    arrays.push_back({fmt::format("x{}", static_cast<int>(d)), Tensor::make(d, {2, 3}).value()});
    if (Result<std::vector<std::byte>> file = write_npy(arrays.back().tensor); file.ok()) npz.add(*file);
  }
  arrays.push_back({"scalar", Tensor::make(DType::f64, {}).value()});
  arrays.push_back({"none", Tensor::make(DType::i8, {0, 4}).value()});
  std::vector<std::byte> bytes;
  auto sink = [&](std::span<const std::byte> part) {
    bytes.insert(bytes.end(), part.begin(), part.end());
    return Status();
  };
  if (write_npz(arrays, sink).ok()) npz.add(bytes);
  bytes.clear();
  arrays.push_back({"codes", Tensor::make(DType::u4, {3, 5}).value()});
  if (write_safetensors({arrays, {{"format", "pt"}}}, sink).ok()) safetensors.add(bytes);
  safetensors.add(std::string_view("{\"a\": [1, -2.5e3, true, null, \"\\u00e9\\ud83d\\ude00\"], \"b\": {\"c\": {}}}"));
  write_dictionary(dir, "npz",
                   joined(numbers(), {"PK\x03\x04",
                                      "PK\x01\x02",
                                      "PK\x05\x06",
                                      "PK\x06\x06",
                                      "PK\x06\x07",
                                      "PK\x07\x08",
                                      "\x93NUMPY",
                                      "'descr': ",
                                      "'fortran_order': ",
                                      "'shape': ",
                                      "True",
                                      "False",
                                      "'<f4'",
                                      "'|b1'",
                                      "'>i8'",
                                      "(2, 3)",
                                      "(2,)",
                                      "()",
                                      ".npy",
                                      "\x01\x00\x14\x00"}));
  write_dictionary(dir, "safetensors",
                   joined(numbers(), {"\"dtype\":", "\"shape\":", "\"data_offsets\":", "__metadata__", "aoq.tensor.",
                                      "\"F32\"", "\"I64\"", "\"BOOL\"", "\"F8_E4M3\"", "u4[3, 5]",
                                      "18446744073709551615", "-1", "1e999", "\\ud800"}));
}

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// One tensor of every element type, and settings of several.
void gguf_files(const fs::path& dir) {
  Corpus gguf(dir, "gguf");
  for (const std::uint32_t type : {0u, 1u, 2u, 3u, 6u, 7u, 8u, 24u, 30u}) {
    std::string file = "GGUF";
    append(file, std::uint32_t{3});
    append(file, std::uint64_t{1});
    append(file, std::uint64_t{1});
    append(file, std::uint64_t{4});
    file += "list";
    append(file, std::uint32_t{9});
    append(file, std::uint32_t{8});
    append(file, std::uint64_t{1});
    append(file, std::uint64_t{3});
    file += "abc";
    append(file, std::uint64_t{1});
    file += "w";
    append(file, std::uint32_t{2});
    append(file, std::uint64_t{32});
    append(file, std::uint64_t{2});
    append(file, type);
    append(file, std::uint64_t{0});
    file.resize((file.size() + 31) / 32 * 32 + 256);
    gguf.add(std::string_view(file));
  }
  write_dictionary(dir, "gguf", joined(numbers(), {"GGUF", "general.alignment", "tokenizer.ggml.tokens"}));
}

}  // namespace
}  // namespace aoq

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: fuzz_seeds DIR\n");
    return 2;
  }
  aoq::graphs(argv[1]);
  aoq::onnx_files(argv[1]);
  aoq::archives(argv[1]);
  aoq::gguf_files(argv[1]);
}
