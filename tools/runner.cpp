#include "tools/runner.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include <fmt/format.h>

#include "tools/compiler.h"
#include "tools/suggest.h"

namespace aoq::tools {

namespace {

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

Result<std::vector<std::int64_t>> parse_shape(std::string_view text) {
  std::vector<std::int64_t> shape;
  while (!text.empty()) {
    std::int64_t size = -1;
    auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), size);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    bool goes_on = !text.empty() && (text[0] == 'x' || text[0] == ',') && text.size() > 1;
    if (failed != std::errc() || size < 0 || (!text.empty() && !goes_on)) {
      return error(Code::invalid_argument, "--shape: found \"{}\", expected NAME=1x3x224x224", text);
    }
    if (goes_on) text.remove_prefix(1);
    shape.push_back(size);
  }
  return shape;
}

Status apply_given(const std::vector<std::string>& given, const std::vector<Port>& ports, Shapes& shapes) {
  for (const std::string& entry : given) {
    std::size_t equals = entry.find('=');
    std::string name = entry.substr(0, equals);
    std::vector<std::string> known;
    for (const Port& port : ports) known.push_back(port.name);
    auto i = static_cast<std::size_t>(std::find(known.begin(), known.end(), name) - known.begin());
    if (equals == std::string::npos || i == ports.size()) {
      return error(Code::invalid_argument, "--shape {}: names no input{}; expected NAME=1x3x224x224, of {}", entry,
                   did_you_mean(name, known), fmt::join(known, ", "));
    }
    AOQ_ASSIGN(shapes[i], parse_shape(std::string_view(entry).substr(equals + 1)));
  }
  return {};
}

// Symbols that are the first dimension of an input get `batch`, the others `size`, as near as their ranges allow.
Result<Shapes> try_shapes(const Model& model, std::int64_t batch, std::int64_t size) {
  SymbolValues values;
  const std::map<std::string, SymbolRange>& ranges = model.graph().symbols;
  for (const auto& [symbol, range] : ranges) values[symbol] = std::clamp(size, range.min, range.max);
  for (const Port& port : model.inputs()) {
    if (port.type.shape.empty() || !port.type.shape[0].is_symbol()) continue;
    std::string symbol = port.type.shape[0].to_string();
    auto range = ranges.find(symbol);
    values[symbol] = range != ranges.end() ? std::clamp(batch, range->second.min, range->second.max) : batch;
  }
  Shapes shapes;
  for (const Port& port : model.inputs()) {
    AOQ_ASSIGN(std::vector<std::int64_t> shape, evaluate(port.type.shape, values));
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

}  // namespace

void declare(Flags& flags, RunOptions& options) {
  flags.integer("--threads", "N", options.threads, 1, "Threads (default: what this process may use)");
  flags.flag("--deterministic", options.deterministic, "Use no kernel that is marked inexact");
  flags.list("--bind", "SYMBOL=N", options.bind, "A number for a symbolic dimension of an .onnx model; repeatable");
}

void declare_batch_loops(Flags& flags, RunOptions& options) {
  flags.flag("--whole-batch", options.whole_batch,
             "Run every op on the whole batch (default: sample by sample where that should be faster)");
}

ModelOptions to_model_options(const RunOptions& options) {
  return model_options({.threads = static_cast<int>(std::min<std::int64_t>(options.threads, ThreadPool::kMaxThreads)),
                        .deterministic = options.deterministic,
                        .batch_loops = options.whole_batch ? BatchLoops::nowhere : BatchLoops::automatic});
}

LoadOptions load_options(const std::string& path, const RunOptions& options) {
  return {.bind = path.ends_with(".onnx") ? options.bind : std::vector<std::string>()};
}

Result<LoadedModel> load_lowered(const std::string& path, const LoadOptions& load) {
  AOQ_ASSIGN(LoadedModel loaded, load_model(path, load));
  if (loaded.graph.stage == Stage::lowered) return loaded;
  if (loaded.graph.stage == Stage::prepared) {
    return error(Code::invalid_model,
                 "{}: the graph is prepared and has observers, expected one that can run; compile it with "
                 "calibration data",
                 path);
  }
  CompileOptions options;
  options.recipe.mode = QuantMode::none;
  Result<Compiled> compiled = compile_graph(std::move(loaded.graph), std::move(options));
  if (!compiled.ok()) return std::move(compiled).status().with_context(path);
  loaded.graph = std::move(compiled->graph);
  return loaded;
}

Result<OpenModel> open_model(const std::string& path, ModelOptions options, const LoadOptions& load) {
  auto start = std::chrono::steady_clock::now();
  AOQ_ASSIGN(LoadedModel loaded, load_lowered(path, load));
  auto wanted = loaded.graph.metadata.find("aoq.deterministic");
  if (wanted != loaded.graph.metadata.end() && wanted->second == "true") options.deterministic = true;
  Result<std::shared_ptr<const Model>> model = Model::from_graph(std::move(loaded.graph), std::move(options));
  if (!model.ok()) return std::move(model).status().with_context(path);
  AOQ_ASSIGN(Session session, Session::create(*model));
  return OpenModel{std::move(session), loaded.file_bytes, loaded.summary.version, loaded.summary.provenance.json,
                   milliseconds_since(start)};
}

Result<OpenModel> open_model(const std::string& path, const RunOptions& options) {
  return open_model(path, to_model_options(options), {.bind = options.bind});
}

std::vector<TensorView> views_of(const std::vector<Tensor>& tensors) {
  std::vector<TensorView> views;
  for (const Tensor& t : tensors) views.push_back(t.view());
  return views;
}

Status run_batches(Session& session, const DataSet& data, const Console& console, const char* what,
                   const BatchDone& done) {
  Progress progress(console, what, data.samples());
  for (std::int64_t i = 0; i < data.batch_count(); ++i) {
    AOQ_ASSIGN(std::vector<Tensor> inputs, data.batch(i));
    std::vector<TensorView> views = views_of(inputs);
    Result<std::span<const TensorView>> outputs = session.run(views);
    Status status = outputs.ok() ? done(i, *outputs) : std::move(outputs).status();
    if (!status.ok()) return std::move(status).with_context(fmt::format("sample {}", data.first_sample(i)));
    progress.advance(data.batch_samples(i));
  }
  return {};
}

Result<PlanInfo> describe_plan(Session& session, const PlanShapes& wanted, Shapes* chosen) {
  Status first_failure;
  for (std::int64_t size : {1, 8, 32, 64, 128, 224, 256}) {
    AOQ_ASSIGN(Shapes shapes, try_shapes(session.model(), wanted.batch, size));
    AOQ_TRY(apply_given(wanted.given, session.model().inputs(), shapes));
    Result<PlanInfo> info = session.describe(shapes);
    if (info.ok()) {
      if (chosen != nullptr) *chosen = std::move(shapes);
      return info;
    }
    if (first_failure.ok()) first_failure = std::move(info).status();
    if (first_failure.code() == Code::unsupported) break;
  }
  return first_failure;
}

}  // namespace aoq::tools
