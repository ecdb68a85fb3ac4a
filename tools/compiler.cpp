#include "tools/compiler.h"

#include <map>

#include "formats/json/json.h"
#include "ir/guard.h"
#include "ir/hash.h"
#include "runtime/graph_executor.h"
#include "runtime/kernel_choice.h"
#include "tools/model_file.h"
#include "tools/version.h"

namespace aoq::tools {

namespace {

Result<Value*> packed_copy(Graph& graph, const Node& constant, const std::string& layout, const Backend& backend,
                           Node* before) {
  const Tensor& plain = constant.attributes().tensor("value");
  AOQ_ASSIGN(std::vector<std::byte> bytes, backend.pack(plain, layout));
  AOQ_ASSIGN(Tensor value, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes));
  Attributes attributes{
      {"value", std::move(value)}, {"dtype", plain.dtype()}, {"shape", plain.shape()}, {"layout", layout}};
  AOQ_ASSIGN(Node * packed, graph.create_like(constant, Op::packed_constant, {}, std::move(attributes), before));
  return packed->output();
}

void erase_unread(Graph& graph, Op op) {
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (n->is(op) && n->output()->uses().empty()) graph.erase(n);
    n = next;
  }
}

// Free of time stamps and paths: the same inputs give the same bytes.
Result<AoqProvenance> describe_origin(const CompileOptions& options, const std::vector<torchao::LayerReport>& layers) {
  Json json{{"tool", std::string("aoq ") + kVersion},
            {"source_hash", options.source_hash},
            {"quantize", mode_name(options.recipe.mode)},
            {"cpu", options.cpu_class},
            {"deterministic", options.run.deterministic}};
  if (options.recipe.mode != QuantMode::none) {
    AOQ_ASSIGN(json["recipe"], parse_json(print_recipe(options.recipe)));
    std::string ranges = options.ranges.to_json();
    json["calibration"] = {{"digest", hash_text(xxh64(std::as_bytes(std::span(ranges))))},
                           {"samples", options.ranges.samples}};
  }
  if (!options.tuning.is_null()) json["tuning"] = options.tuning;
  if (!layers.empty()) json["layers"] = layers_json(layers);
  AoqProvenance provenance;
  provenance.json = dump_json(json);
  return provenance;
}

void record_rows(Graph& graph, const std::map<std::string, std::string>& rows) {
  if (rows.empty()) return;
  for (const Node* n : graph.nodes()) {
    const auto row = rows.find(kernel_choice_key(*n));
    if (row != rows.end()) graph.metadata.insert(*row);
  }
}

}  // namespace

const char* mode_name(QuantMode mode) {
  constexpr const char* kNames[] = {"none", "static", "dynamic", "weight-only"};
  return kNames[static_cast<int>(mode)];
}

Json layers_json(const std::vector<torchao::LayerReport>& layers) {
  Json out = Json::array();
  for (const torchao::LayerReport& l : layers) {
    Json entry{{"module", l.module}};
    if (!l.type.empty()) entry["config"] = l.type;
    if (!l.kept_because.empty()) {
      entry["kept_because"] = l.kept_because;
    } else {
      entry["bits_per_weight"] = l.bits_per_weight;
      entry["relative_error"] = l.relative_error;
    }
    if (l.kind == torchao::LayerKind::embedding) entry["kind"] = "embedding";
    if (l.shares_codes) entry["shares_codes"] = true;
    if (l.float_weight_stays) entry["float_weight_stays"] = true;
    out.push_back(std::move(entry));
  }
  return out;
}

Status pack_constants(Graph& graph, const Backend& backend) {
  std::map<std::pair<const Value*, std::string>, Value*> packed;
  for (Node* n = graph.first(); n != nullptr; n = n->next()) {
    for (std::size_t i = 0; i < n->inputs().size(); ++i) {
      Value* v = n->input(i);
      if (v == nullptr || !v->def()->is(Op::constant)) continue;
      std::string layout = backend.preferred_layout(*n, i, chosen_row(graph, *n));
      if (layout.empty()) continue;
      Value*& copy = packed[{v, layout}];
      if (copy == nullptr) {
        // Beside the plain one, so that it is defined before every reader.
        Result<Value*> made = packed_copy(graph, *v->def(), layout, backend, v->def());
        if (!made.ok()) return std::move(made).status().with_context(describe(*n));
        copy = *made;
      }
      graph.set_input(n, i, copy);
    }
  }
  erase_unread(graph, Op::constant);
  return {};
}

Status unpack_constants(Graph& graph, const Backend& backend) {
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (n->is(Op::packed_constant)) {
      const Attributes& a = n->attributes();
      Result<Tensor> plain =
          backend.unpack(a.tensor("value").bytes(), a.dtype("dtype"), a.integers("shape"), a.string("layout"));
      if (!plain.ok()) return std::move(plain).status().with_context(describe(*n));
      AOQ_ASSIGN(Node * made, graph.create_like(*n, Op::constant, {}, {{"value", std::move(*plain)}}, n));
      graph.replace_uses(n->output(), made->output());
      graph.erase(n);
    }
    n = next;
  }
  return {};
}

static Result<Compiled> compile_unguarded(Graph graph, CompileOptions options) {
  GraphExecutor executor(model_options(options.run));
  std::unique_ptr<TargetInfo> target = make_target();
  PassContext context;
  context.target = target.get();
  context.recipe = &options.recipe;
  context.executor = &executor;
  context.data = options.data;
  context.ranges = &options.ranges;
  std::vector<std::string> warnings;
  context.warnings = &warnings;
  std::vector<torchao::LayerReport> layers;
  context.layers = &layers;
  PipelineOptions pipeline;
  pipeline.mode = options.recipe.mode;
  pipeline.last = options.last;
  pipeline.run = options.passes;
  if (options.place) pipeline.before_quantizing = [&](Graph& traced) { return options.place(traced, options.ranges); };
  AOQ_TRY(run_pipeline(graph, context, pipeline));
  if (graph.stage == Stage::lowered) record_rows(graph, options.rows);
  if (options.cpu_class != "portable" && graph.stage == Stage::lowered) {
    AOQ_ASSIGN(std::shared_ptr<const Backend> backend, make_backend(options.cpu_class));
    AOQ_TRY(pack_constants(graph, *backend));
  }
  if (options.run.deterministic) graph.metadata["aoq.deterministic"] = "true";
  Compiled compiled;
  AOQ_ASSIGN(compiled.provenance, describe_origin(options, layers));
  compiled.graph = std::move(graph);
  compiled.ranges = std::move(options.ranges);
  compiled.warnings = std::move(warnings);
  compiled.layers = std::move(layers);
  return compiled;
}

Result<Compiled> compile_graph(Graph graph, CompileOptions options) {
  return guarded([&] { return compile_unguarded(std::move(graph), std::move(options)); });
}

}  // namespace aoq::tools
