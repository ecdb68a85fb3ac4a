// Parses the input as IR text. What parses must verify or be refused, print and parse again to the same text and, where
// it is small, run: with the interpreter and with the CPU's kernels, which must agree on whether the data is
// acceptable.
#include <cmath>
#include <cstdio>
#include <map>

#include "backends/cpu/backend.h"
#include "ir/interpreter.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "runtime/session.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace aoq;

constexpr std::int64_t kMostElements = 256;
constexpr std::int64_t kMostNodes = 64;

bool is_small(const Graph& graph) {
  std::int64_t nodes = 0;
  for (const Node* n : graph.nodes()) {
    if (++nodes > kMostNodes) return false;
    for (std::size_t i = 0; i < n->output_count(); ++i) {
      std::int64_t elements = 1;
      for (const Dim& d : n->output(i)->type().shape) {
        if (!d.is_constant() || d.constant() > kMostElements) return false;
        elements *= d.constant();
        if (elements > kMostElements) return false;
      }
    }
    // Windows may be larger than what they slide over.
    for (const auto& [name, value] : n->attributes()) {
      const auto* list = std::get_if<std::vector<std::int64_t>>(&value);
      for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
        if (std::abs(static_cast<double>((*list)[i])) > kMostElements) return false;
      }
    }
  }
  return true;
}

// Whole numbers from below to above the indices that a small dimension has; -1 too, and some that are far off.
Result<std::vector<Tensor>> make_inputs(const Graph& graph, unsigned seed) {
  std::vector<Tensor> inputs;
  for (const Node* n : graph.input_nodes()) {
    const Type& type = n->output()->type();
    std::vector<std::int64_t> shape;
    for (const Dim& d : type.shape) shape.push_back(d.constant());
    AOQ_ASSIGN(Tensor t, Tensor::make(type.dtype, std::move(shape)));
    for (std::int64_t i = 0; i < t.element_count(); ++i) {
      seed = seed * 1664525u + 1013904223u;
      const int small = static_cast<int>(seed >> 24) % 6 - 1;
      const double value = (seed >> 16) % 61 == 0 ? -1e9 : (seed >> 16) % 67 == 0 ? 2147483647.0 : small;
      store_from_double(type.dtype, t.mutable_bytes().data(), i, type.dtype == DType::boolean ? small & 1 : value);
    }
    inputs.push_back(std::move(t));
  }
  return inputs;
}

Status interpret(const Graph& graph, std::span<const Tensor> inputs) {
  ReferenceExecutor executor;
  AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph));
  return executable->run(inputs, {}).status();
}

Status run_kernels(const Graph& graph, std::span<const Tensor> inputs) {
  static const auto backend = std::make_shared<const CpuBackend>();
  ModelOptions options;
  options.backends = {backend};
  options.threads = 1;
  options.deterministic = true;
  AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_graph(graph.clone(), std::move(options)));
  AOQ_ASSIGN(Session session, Session::create(model));
  std::vector<TensorView> views;
  for (const Tensor& t : inputs) views.push_back(t.view());
  return session.run(views).status();
}

void run(const Graph& graph, unsigned seed) {
  Result<std::vector<Tensor>> inputs = make_inputs(graph, seed);
  if (!inputs.ok()) return;
  const Status reference = interpret(graph, *inputs);
  fuzz::require_typed(reference);
  const Status kernels = run_kernels(graph, *inputs);
  fuzz::require_typed(kernels);
  // Bad data is bad data to every kernel. (A model may also be refused when it is opened.)
  if (reference.ok() && kernels.code() == Code::invalid_data) {
    std::fprintf(stderr, "the kernels refuse: %s\n", kernels.message().c_str());
    AOQ_CHECK(false && "only a kernel refuses the data");
  }
  if (reference.code() == Code::invalid_data && kernels.ok()) {
    std::fprintf(stderr, "the reference refuses: %s\n", reference.message().c_str());
    AOQ_CHECK(false && "a kernel accepts data it should refuse");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::string_view text(reinterpret_cast<const char*>(input.bytes().data()), size);
  std::map<std::string, Tensor> constants;
  for (const char* name : {"w", "b"}) {
    constants.emplace(name, Tensor::make(DType::f32, {4, 4}).value());
  }
  fuzz::MemoryWatch watch(128 * size + 64 * fuzz::kMegabyte);
  Result<Graph> graph = parse_text(text, constants);
  if (!graph.ok()) {
    fuzz::require_typed(graph.status());
    return 0;
  }
  const Status verified = verify(*graph);
  fuzz::require_typed(verified);
  if (!verified.ok()) return 0;
  const GraphText printed = print_text(*graph);
  Result<Graph> again = parse_text(printed.text, printed.constants);
  AOQ_CHECK(again.ok() && print_text(*again).text == printed.text);
  if (is_small(*graph)) run(*graph, static_cast<unsigned>(size));
  return 0;
}
