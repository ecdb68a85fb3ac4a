// Runs an ONNX model with the reference interpreter, to compare with other runtimes.
//
//   onnx_run MODEL IN.npz OUT.npz [SYMBOL=NUMBER ...]     arrays in0, in1, ... to out0, out1, ...
//   onnx_run --recognize MODEL IN.npz OUT.npz [...]       the same after the rewrites that recognise ops
//   onnx_run --print MODEL [SYMBOL=NUMBER ...]            the nodes of the imported graph
//   onnx_run --batch LIST                                 lines of MODEL, IN.npz and OUT.npz, separated by tabs
//
// A batch prints "ok" or the error for every line, and goes on.
#include <fmt/core.h>

#include <charconv>
#include <cstdio>
#include <fstream>

#include "formats/io/file.h"
#include "formats/npy/npy.h"
#include "formats/onnx/importer.h"
#include "ir/interpreter.h"
#include "passes/rewrite/recognize.h"

namespace aoq {
namespace {

Result<Graph> import_file(const std::string& path, const SymbolValues& bind) {
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  onnx::OnnxOptions options;
  options.owner = file;
  options.bind = bind;
  return onnx::import_onnx(file->bytes(), options);
}

Result<std::vector<Tensor>> read_inputs(const std::string& path) {
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  AOQ_ASSIGN(NpzReader reader, NpzReader::open(file->bytes(), file));
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; reader.contains(fmt::format("in{}", i)); ++i) {
    AOQ_ASSIGN(Tensor t, reader.read(fmt::format("in{}", i)));
    inputs.push_back(std::move(t));
  }
  return inputs;
}

// Recognises what can be; says how often each rewrite fired by the ops that are there afterwards.
Status recognize(Graph& graph) {
  for (auto rewrite : {recognize_gelu, recognize_silu, recognize_hardswish, recognize_layer_norm, recognize_rms_norm,
                       recognize_softmax, recognize_one_hot, recognize_embedding}) {
    AOQ_TRY(rewrite(graph).status());
    for (Node* n = graph.last(); n != nullptr;) {
      Node* previous = n->previous();
      bool is_read = n->is(Op::input) || n->is(Op::output);
      for (std::size_t i = 0; i < n->output_count(); ++i) is_read = is_read || !n->output(i)->uses().empty();
      if (!is_read) graph.erase(n);
      n = previous;
    }
  }
  std::map<std::string, int> counts;
  for (const Node* n : graph.nodes()) ++counts[n->def().name];
  for (const auto& [name, count] : counts) fmt::print("{}={} ", name, count);
  fmt::print("\n");
  return {};
}

Status run_file(const std::string& model, const std::string& in, const std::string& out, const SymbolValues& bind,
                bool recognizes = false) {
  AOQ_ASSIGN(Graph graph, import_file(model, bind));
  if (recognizes) AOQ_TRY(recognize(graph));
  AOQ_ASSIGN(std::vector<Tensor> inputs, read_inputs(in));
  ReferenceExecutor executor;
  AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph));
  AOQ_ASSIGN(std::vector<Tensor> results, executable->run(inputs, Tap{}));
  std::vector<NamedTensor> named;
  for (std::size_t i = 0; i < results.size(); ++i) named.push_back({fmt::format("out{}", i), results[i]});
  return write_file_atomically(out, [&](const ByteSink& sink) { return write_npz(named, sink); });
}

Status print_file(const std::string& model, const SymbolValues& bind) {
  AOQ_ASSIGN(Graph graph, import_file(model, bind));
  std::map<const Value*, std::string> names;
  for (const Node* n : graph.nodes()) {
    std::string line;
    for (std::size_t i = 0; i < n->output_count(); ++i) {
      std::string name = fmt::format("%{}", names.size());
      line += fmt::format("{}{}:{}", i ? ", " : "", name, to_string(n->output(i)->type()));
      names[n->output(i)] = std::move(name);
    }
    line += fmt::format(" = {}(", n->def().name);
    for (const Value* in : n->inputs()) line += in ? names[in] + " " : "- ";
    fmt::print("{})  # {} [{}]\n", line, n->label(), n->scope.path);
  }
  return {};
}

Status run_batch(const std::string& list) {
  std::ifstream lines(list);
  for (std::string line; std::getline(lines, line);) {
    std::size_t first = line.find('\t');
    std::size_t second = line.find('\t', first + 1);
    if (second == std::string::npos) return error(Code::invalid_argument, "{}: expected three columns", list);
    Status status =
        run_file(line.substr(0, first), line.substr(first + 1, second - first - 1), line.substr(second + 1), {});
    fmt::print("{}\n", status.ok() ? "ok" : fmt::format("{}: {}", code_name(status.code()), status.message()));
    std::fflush(stdout);
  }
  return {};
}

Result<SymbolValues> parse_bindings(int argc, char** argv, int first) {
  SymbolValues bind;
  for (int i = first; i < argc; ++i) {
    std::string_view text = argv[i];
    std::size_t equals = text.rfind('=');
    std::int64_t v = 0;
    if (equals != std::string_view::npos) std::from_chars(text.data() + equals + 1, text.data() + text.size(), v);
    if (v <= 0) return error(Code::invalid_argument, "expected SYMBOL=NUMBER, found \"{}\"", text);
    bind.emplace(text.substr(0, equals), v);
  }
  return bind;
}

Status run(int argc, char** argv) {
  std::string_view first = argc > 2 ? argv[1] : "";
  if (first == "--batch") return run_batch(argv[2]);
  bool prints = first == "--print";
  bool recognizes = first == "--recognize";
  if (recognizes) {
    --argc;
    ++argv;
  }
  if (!prints && argc < 4)
    return error(Code::invalid_argument, "usage: onnx_run MODEL IN.npz OUT.npz [SYMBOL=NUMBER ...]");
  AOQ_ASSIGN(SymbolValues bind, parse_bindings(argc, argv, prints ? 3 : 4));
  return prints ? print_file(argv[2], bind) : run_file(argv[1], argv[2], argv[3], bind, recognizes);
}

}  // namespace
}  // namespace aoq

int main(int argc, char** argv) {
  aoq::Status status = aoq::run(argc, argv);
  if (status.ok()) return 0;
  fmt::print(stderr, "{}: {}\n", aoq::code_name(status.code()), status.message());
  return 1;
}
