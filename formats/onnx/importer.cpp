#include "formats/onnx/importer.h"

#include <algorithm>

#include "formats/onnx/context.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"
#include "ir/interpreter.h"

namespace aoq::onnx {

bool is_default_domain(std::string_view domain) {
  return domain.empty() || domain == "ai.onnx";
}

Binding* Importer::find(std::string_view name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (auto it = scope->find(name); it != scope->end()) return &it->second;
  }
  return nullptr;
}

Status Importer::define(std::string_view name, Binding binding) {
  if (name.empty()) return {};
  if (!scopes_.back().emplace(name, std::move(binding)).second) {
    return error(Code::invalid_model, "the name \"{}\" is defined twice", name);
  }
  return {};
}

const Tensor* Importer::constant(Binding& binding) const {
  if (!binding.tensor && !binding.value && binding.known && binding.known->is_constant()) {
    if (Result<Tensor> t = tensor_from_known(*binding.known); t.ok()) binding.tensor = std::move(*t);
  }
  if (binding.tensor) return &*binding.tensor;
  return constant_tensor(binding.value);
}

const Known* Importer::known(Binding& binding) {
  if (!binding.known_tried) {
    binding.known_tried = true;
    if (const Tensor* t = constant(binding)) binding.known = known_from_tensor(*t);
  }
  return binding.known ? &*binding.known : nullptr;
}

Type Importer::type(const Binding& binding) const {
  if (binding.value) return binding.value->type();
  if (binding.tensor) return Type{binding.tensor->dtype(), dims_of(binding.tensor->shape()), std::nullopt};
  AOQ_CHECK(binding.known.has_value());
  return Type{binding.known->dtype, dims_of(binding.known->shape), std::nullopt};
}

Result<Value*> Importer::materialize(Binding& binding) {
  if (binding.value) return binding.value;
  if (!binding.tensor && binding.known && !binding.known->is_constant()) {
    const Known& k = *binding.known;
    AOQ_ASSIGN(std::vector<Value*> v, emit(nullptr, Op::dims, {}, {{"values", k.elements}}));
    if (k.shape.size() != 1) {
      AOQ_ASSIGN(v, emit(nullptr, Op::reshape, {v[0]}, {{"shape", dims_of(k.shape)}}));
    }
    if (k.dtype != DType::i64) {
      AOQ_ASSIGN(v, emit(nullptr, Op::cast, {v[0]}, {{"dtype", k.dtype}}));
    }
    binding.value = v[0];
    return binding.value;
  }
  if (!binding.tensor) {
    AOQ_ASSIGN(binding.tensor, tensor_from_known(*binding.known));
  }
  binding.value = graph_.constant(*binding.tensor, nullptr, binding.origin);
  return binding.value;
}

Result<std::vector<Value*>> Importer::emit(const NodeContext* context, Op op, std::vector<Value*> inputs,
                                           Attributes attributes) {
  if (graph_.node_count() > 4 * options_.limits.nodes) return error(ErrorId::limit, "the graph grows too large");
  AOQ_ASSIGN(Node * node, graph_.create(op, std::move(inputs), std::move(attributes)));
  if (context) {
    node->scope = context->scope();
    node->origins = {context->origin()};
  }
  std::vector<Value*> results;
  for (std::size_t i = 0; i < node->output_count(); ++i) results.push_back(node->output(i));
  AOQ_TRY(fold(node, results));
  return results;
}

namespace {

// Whether running a node now costs little: what it reads and writes, not their product.
bool is_cheap(const Node& node, std::int64_t result_elements) {
  if (node.def().has_trait(kElementwise) || node.def().has_trait(kDataMovement) || node.def().has_trait(kView))
    return true;
  constexpr std::int64_t kMostWork = std::int64_t{1} << 26;
  std::int64_t read = 1;
  for (const Value* in : node.inputs()) {
    if (in) read = std::max(read, constant_tensor(in)->element_count());
  }
  return result_elements == 0 || read <= kMostWork / std::max<std::int64_t>(result_elements, 1);
}

}  // namespace

// Replaces a node whose inputs are all constant by its results. Quantize and dequantize stay: they carry meaning that
// passes look for.
Status Importer::fold(Node* node, std::vector<Value*>& results) {
  const OpDef& def = node->def();
  if (def.reference == nullptr || def.rule == QuantRule::boundary) return {};
  std::vector<TensorView> inputs;
  for (const Value* in : node->inputs()) {
    const Tensor* t = constant_tensor(in);
    if (in != nullptr && t == nullptr) return {};
    inputs.push_back(t ? t->view() : TensorView{});
  }
  for (const auto& [name, attribute] : node->attributes()) {
    if (kind_of(attribute) == AttributeKind::dims && !all_constant(std::get<std::vector<Dim>>(attribute))) return {};
  }
  std::vector<Tensor> outputs;
  std::int64_t bytes = 0;
  for (const Value* out : results) {
    if (out->type().quantization || !all_constant(out->type().shape)) return {};
    std::vector<std::int64_t> shape = constants(out->type().shape);
    std::optional<std::int64_t> count = checked::element_count(shape);
    if (!count || !is_cheap(*node, *count)) return {};
    auto size = checked::packed_bytes(static_cast<std::uint64_t>(*count),
                                      static_cast<std::uint64_t>(dtype_info(out->type().dtype).bits));
    if (!size || *size > static_cast<std::uint64_t>(options_.max_folded_bytes - folded_bytes_ - bytes)) return {};
    bytes += static_cast<std::int64_t>(*size);
    AOQ_ASSIGN(Tensor t, Tensor::make(out->type().dtype, std::move(shape)));
    outputs.push_back(std::move(t));
  }
  std::vector<MutableTensorView> views;
  for (Tensor& t : outputs) views.push_back(t.mutable_view());
  // What fails now (an index out of range) would fail in every run.
  AOQ_TRY(def.reference(EvalContext{node->op(), inputs, views, node->attributes()}));
  folded_bytes_ += bytes;
  const std::string label = folded_label(*node);
  for (std::size_t i = 0; i < results.size(); ++i) {
    results[i] = graph_.constant(std::move(outputs[i]), nullptr, label);
    results[i]->def()->scope = node->scope;
  }
  graph_.erase(node);
  return {};
}

void Importer::drop_unused_constants() {
  for (Node* n = graph_.last(); n != nullptr;) {
    Node* previous = n->previous();
    bool constant = n->is(Op::constant) || n->is(Op::dims);
    if (constant && n->output()->uses().empty()) graph_.erase(n);
    n = previous;
  }
}

// One message for everything in the model that has no handler.
Status Importer::check_supported(const GraphProto& graph) const {
  struct Group {
    std::size_t count = 0;
    std::string first, advice;
  };
  std::map<std::string, Group> groups;
  for (const NodeProto& node : graph.nodes) {
    std::string range;
    bool is_ours = is_default_domain(node.domain);
    if (is_ours && find_handler(node.op_type, opset_, &range) != nullptr) continue;
    std::string name = (is_ours ? "" : std::string(node.domain) + ".") + std::string(node.op_type);
    Group& group = groups[name];
    if (group.count++ > 0) continue;
    group.first = std::string(!node.name.empty() ? node.name : node.outputs.empty() ? node.op_type : node.outputs[0]);
    group.advice = !is_ours        ? "export with ops of the default domain only"
                   : range.empty() ? "remove the nodes or replace them by supported ops"
                                   : "supported in opsets " + range + "; convert the model";
  }
  if (groups.empty()) return {};
  std::string text;
  for (const auto& [name, group] : groups) {
    text += fmt::format("{}{} ({} node{}, first \"{}\"; {})", text.empty() ? "" : ", ", name, group.count,
                        group.count == 1 ? "" : "s", group.first, group.advice);
  }
  return error(ErrorId::onnx_op, "opset {}: not supported: {}", opset_, text);
}

Status Importer::add_initializers(const GraphProto& graph, bool is_main) {
  if (graph.sparse_initializer_count > 0) {
    return error(Code::unsupported, "{} sparse initializers; export with dense ones", graph.sparse_initializer_count);
  }
  std::set<std::string_view> skipped;
  if (is_main && options_.initializer_inputs == OnnxOptions::InitializerInputs::inputs) {
    for (const ValueInfoProto& in : graph.inputs) skipped.insert(in.name);
  }
  for (const TensorProto& proto : graph.initializers) {
    if (skipped.contains(proto.name)) continue;
    if (proto.name.empty()) return error(Code::invalid_model, "an initializer has no name");
    Result<Tensor> tensor = to_tensor(proto, options_);
    if (!tensor.ok()) return std::move(tensor).status().with_context(fmt::format("initializer {}", proto.name));
    Binding binding = Binding::of(std::move(*tensor));
    binding.origin = std::string(proto.name);
    AOQ_TRY(define(proto.name, std::move(binding)));
  }
  return {};
}

namespace {

// A name that IR text can write; empty when nothing of it can be kept.
std::string symbol_text(std::string_view name) {
  std::string out;
  for (char c : name.substr(0, 64)) {
    bool keep = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    out += keep ? c : '_';
  }
  if (out.find_first_not_of("_.") == std::string::npos) return {};
  if (out[0] >= '0' && out[0] <= '9') out.insert(out.begin(), '_');
  if (out == "floordiv" || out == "ceildiv" || out == "min" || out == "max") out += '_';
  return out;
}

}  // namespace

std::string Importer::fresh_symbol(std::string wanted) {
  if (wanted.empty()) wanted = "dim";
  std::string name = wanted;
  for (int i = 2; !symbol_names_.insert(name).second; ++i) name = fmt::format("{}_{}", wanted, i);
  graph_.symbols[name] = SymbolRange{};
  return name;
}

Result<Dim> Importer::input_dim(const ValueInfoProto& info, std::size_t axis) {
  const DimProto& d = info.dims[axis];
  bool is_open = d.kind == DimProto::Kind::unknown || (d.kind == DimProto::Kind::value && d.value == -1);
  if (d.kind == DimProto::Kind::value && !is_open) {
    if (d.value < 0) return error(Code::invalid_model, "dimension {} is {}", axis, d.value);
    return Dim(d.value);
  }
  // Paddle writes "?" for every dimension it does not know, equal or not.
  std::string text = is_open ? std::string() : symbol_text(d.symbol);
  if (!text.empty()) {
    if (auto bound = options_.bind.find(d.symbol); bound != options_.bind.end()) {
      bound_.insert(bound->first);
      return Dim(bound->second);
    }
    auto it = symbols_.find(d.symbol);
    if (it == symbols_.end()) it = symbols_.emplace(std::string(d.symbol), fresh_symbol(text)).first;
    text = it->second;
  } else {
    text = fresh_symbol(fmt::format("{}_{}", symbol_text(info.name), axis));
  }
  if (auto bound = options_.bind.find(text); bound != options_.bind.end()) {
    bound_.insert(text);
    graph_.symbols.erase(text);
    return Dim(bound->second);
  }
  return Dim::symbol(text);
}

Result<Type> Importer::input_type(const ValueInfoProto& info) {
  if (!info.is_tensor)
    return error(Code::unsupported, "is not a tensor; sequences, maps and optionals are not supported");
  std::optional<DType> dtype = dtype_from_onnx(info.elem_type);
  if (!dtype) return error(Code::unsupported, "element type {} is not supported", onnx_type_name(info.elem_type));
  Type type{*dtype, {}, std::nullopt};
  if (auto given = options_.input_shapes.find(info.name); given != options_.input_shapes.end()) {
    if (info.has_shape && info.dims.size() != given->second.size()) {
      return error(Code::invalid_argument, "has rank {}, the shape given for it has {}", info.dims.size(),
                   given->second.size());
    }
    type.shape = given->second;
    for (const Dim& d : type.shape) {
      std::vector<std::string> names;
      d.collect_symbols(names);
      for (std::string& n : names) {
        symbol_names_.insert(n);
        graph_.symbols[n] = SymbolRange{};
      }
    }
    return type;
  }
  if (!info.has_shape) return error(Code::unsupported, "has no shape in the model; give one in the import options");
  if (info.dims.size() > kMaxRank)
    return error(Code::resource_limit, "rank {} is above {}", info.dims.size(), kMaxRank);
  for (std::size_t axis = 0; axis < info.dims.size(); ++axis) {
    AOQ_ASSIGN(Dim d, input_dim(info, axis));
    type.shape.push_back(std::move(d));
  }
  return type;
}

Status Importer::add_inputs() {
  for (const ValueInfoProto& info : model_.graph.inputs) {
    if (info.name.empty()) return error(Code::invalid_model, "a graph input has no name");
    if (Binding* b = find(info.name)) {
      if (!b->tensor) return error(Code::invalid_model, "the graph input \"{}\" is defined twice", info.name);
      continue;
    }
    Result<Type> type = input_type(info);
    if (!type.ok()) return std::move(type).status().with_context(fmt::format("graph input {}", info.name));
    AOQ_TRY(define(info.name, Binding::of(graph_.input(std::string(info.name), std::move(*type)))));
  }
  for (const auto& [name, value] : options_.bind) {
    if (bound_.contains(name)) continue;
    std::string open;
    for (const auto& [symbol, range] : graph_.symbols) open += open.empty() ? symbol : ", " + symbol;
    return error(Code::invalid_argument, "no dimension to bind is named \"{}\"; open dimensions of the inputs: {}",
                 name, open.empty() ? "none" : open);
  }
  return {};
}

Status Importer::add_outputs() {
  std::vector<Value*> values;
  std::vector<std::string> names;
  for (const ValueInfoProto& info : model_.graph.outputs) {
    Binding* binding = find(info.name);
    if (binding == nullptr) return error(Code::invalid_model, "the graph output \"{}\" is not defined", info.name);
    AOQ_ASSIGN(Value * value, materialize(*binding));
    std::optional<DType> dtype = dtype_from_onnx(info.elem_type);
    if (dtype && *dtype != value->type().dtype) {
      return error(Code::invalid_model, "graph output {} is declared {} but computed as {}", info.name,
                   dtype_name(*dtype), dtype_name(value->type().dtype));
    }
    values.push_back(value);
    names.emplace_back(info.name);
  }
  if (values.empty()) return error(Code::invalid_model, "the graph has no outputs");
  return graph_.output(std::move(values), std::move(names));
}

Status Importer::add_metadata() {
  auto& metadata = graph_.metadata;
  metadata["onnx.opset"] = std::to_string(opset_);
  if (!model_.producer_name.empty()) {
    metadata["onnx.producer"] = std::string(model_.producer_name);
    if (!model_.producer_version.empty()) metadata["onnx.producer"] += " " + std::string(model_.producer_version);
  }
  std::string_view doc = model_.graph.doc.empty() ? model_.doc : model_.graph.doc;
  if (!doc.empty()) metadata["onnx.doc"] = std::string(doc);
  for (const auto& [key, value] : model_.metadata) {
    if (!metadata.emplace("meta." + std::string(key), std::string(value)).second) {
      return error(Code::invalid_model, "the metadata key \"{}\" is given twice", key);
    }
  }
  return {};
}

namespace {

Status check_counts(const NodeProto& node, const Handler& handler) {
  auto inputs = static_cast<std::int64_t>(node.inputs.size());
  while (inputs > 0 && node.inputs[static_cast<std::size_t>(inputs - 1)].empty()) --inputs;
  if (inputs < handler.min_inputs || (handler.max_inputs != kAnyNumber && inputs > handler.max_inputs)) {
    return error(Code::invalid_model, "has {} inputs, expected {} to {}", inputs, handler.min_inputs,
                 handler.max_inputs == kAnyNumber ? "any number" : std::to_string(handler.max_inputs));
  }
  auto outputs = static_cast<std::int64_t>(node.outputs.size());
  if (outputs == 0 || (handler.max_outputs != kAnyNumber && outputs > handler.max_outputs)) {
    return error(Code::invalid_model, "has {} outputs, expected 1 to {}", outputs, handler.max_outputs);
  }
  std::set<std::string_view> names;
  for (const AttributeProto& a : node.attributes) {
    if (!names.insert(a.name).second) return error(Code::invalid_model, "the attribute \"{}\" is given twice", a.name);
  }
  return {};
}

Status run_handler(NodeContext& context, const Handler& handler) {
  AOQ_TRY(handler.run(context));
  return context.finish_attributes();
}

// Shape arithmetic through an op that only moves elements: runs it on the positions of the elements, and reads the
// expressions from the positions that come out.
Result<bool> move_known(Importer& importer, const NodeProto& node, const std::vector<Binding*>& inputs,
                        const Handler& handler, NodeContext& context) {
  if (handler.moves == 0) return false;
  std::vector<Dim> pool;
  std::vector<Binding> positions(inputs.size());
  std::vector<Binding*> replaced = inputs;
  DType dtype = DType::i64;
  bool any = false;
  bool is_symbolic = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    if (handler.moves != kMovesAll && (i >= 32 || (handler.moves >> i & 1u) == 0)) {
      if (importer.constant(*inputs[i]) == nullptr) return false;
      continue;
    }
    const Known* k = importer.known(*inputs[i]);
    if (k == nullptr) return false;
    Known index{DType::i64, k->shape, {}};
    for (const Dim& d : k->elements) {
      index.elements.emplace_back(static_cast<std::int64_t>(pool.size()));
      pool.push_back(d);
    }
    is_symbolic = is_symbolic || !k->is_constant();
    dtype = k->dtype;
    any = true;
    AOQ_ASSIGN(Tensor tensor, tensor_from_known(index));
    positions[i] = Binding::of(std::move(tensor));
    replaced[i] = &positions[i];
  }
  if (!any || !is_symbolic) return false;
  NodeContext moved(importer, node, replaced);
  AOQ_TRY(run_handler(moved, handler));
  std::vector<Known> results;
  for (Binding& b : moved.results()) {
    const Tensor* t = importer.constant(b);
    if (t == nullptr || t->element_count() > kMaxKnown || t->dtype() != DType::i64) return false;
    Known k{dtype, t->shape(), {}};
    for (std::int64_t at : t->as<std::int64_t>()) k.elements.push_back(pool[static_cast<std::size_t>(at)]);
    results.push_back(std::move(k));
  }
  for (std::size_t i = 0; i < results.size(); ++i) AOQ_TRY(context.result(Binding::of(std::move(results[i])), i));
  return true;
}

}  // namespace

Status Importer::import_node(const NodeProto& node) {
  const Handler* handler = is_default_domain(node.domain) ? find_handler(node.op_type, opset_) : nullptr;
  if (handler == nullptr)
    return error(ErrorId::onnx_op, "op {} of domain \"{}\" is not supported", node.op_type, node.domain);
  AOQ_TRY(check_counts(node, *handler));
  std::vector<Binding*> inputs;
  for (std::string_view name : node.inputs) {
    inputs.push_back(name.empty() ? nullptr : find(name));
    if (!name.empty() && inputs.back() == nullptr) {
      return error(Code::invalid_model, "the input \"{}\" is not defined before this node", name);
    }
  }
  NodeContext context(*this, node, inputs);
  bool done = false;
  if (handler->known != nullptr && context.all_known()) {
    AOQ_ASSIGN(done, handler->known(context));
  }
  if (!done) {
    AOQ_ASSIGN(done, move_known(*this, node, inputs, *handler, context));
  }
  if (!done) AOQ_TRY(run_handler(context, *handler));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    Binding& result = context.results()[i];
    if (node.outputs[i].empty()) continue;
    if (!result.value && !result.tensor && !result.known) {
      return error(Code::unsupported, "output {} (\"{}\") is not supported", i, node.outputs[i]);
    }
    if (result.origin.empty()) result.origin = context.origin();
    AOQ_TRY(define(node.outputs[i], std::move(result)));
  }
  return {};
}

Status Importer::import_nodes(const GraphProto& graph) {
  for (const NodeProto& node : graph.nodes) {
    Status status = import_node(node);
    if (status.ok()) continue;
    std::string_view name = !node.name.empty() ? node.name : node.outputs.empty() ? "" : node.outputs[0];
    return std::move(status).with_context(fmt::format("node \"{}\" ({}, opset {})", name, node.op_type, opset_));
  }
  return {};
}

Result<std::vector<Binding>> Importer::inline_subgraph(const GraphProto& subgraph) {
  if (++depth_ > options_.limits.depth) return error(ErrorId::limit, "subgraphs are nested too deeply");
  AOQ_TRY(check_supported(subgraph));
  if (!subgraph.inputs.empty())
    return error(Code::invalid_model, "a branch has {} inputs, expected 0", subgraph.inputs.size());
  scopes_.emplace_back();
  AOQ_TRY(add_initializers(subgraph, false));
  AOQ_TRY(import_nodes(subgraph));
  std::vector<Binding> outputs;
  for (const ValueInfoProto& info : subgraph.outputs) {
    Binding* b = find(info.name);
    if (b == nullptr) return error(Code::invalid_model, "the branch output \"{}\" is not defined", info.name);
    outputs.push_back(*b);
  }
  scopes_.pop_back();
  --depth_;
  return outputs;
}

Result<Graph> Importer::run() {
  scopes_.emplace_back();
  if (!model_.graph.name.empty()) graph_.name = symbol_text(model_.graph.name);
  if (graph_.name.empty()) graph_.name = "main";
  AOQ_TRY(check_supported(model_.graph));
  AOQ_TRY(add_metadata());
  AOQ_TRY(add_initializers(model_.graph, true));
  AOQ_TRY(add_inputs());
  AOQ_TRY(import_nodes(model_.graph));
  AOQ_TRY(add_outputs());
  drop_unused_constants();
  return std::move(graph_);
}

namespace {

Result<int> default_opset(const ModelProto& model) {
  std::optional<std::int64_t> version;
  for (const OperatorSet& o : model.opsets) {
    if (!is_default_domain(o.domain)) continue;
    if (version && *version != o.version) return error(Code::invalid_model, "two versions of the default op set");
    version = o.version;
  }
  if (!version) return error(Code::invalid_model, "the model does not say which op set it uses");
  if (*version < kMinOpset) {
    return error(ErrorId::onnx_opset,
                 "opset {} is too old, expected {} to {}: export again or use onnx.version_converter", *version,
                 kMinOpset, kMaxOpset);
  }
  if (*version > kMaxOpset) {
    return error(ErrorId::onnx_opset, "opset {} is newer than {}: export with an opset of {} to {}", *version,
                 kMaxOpset, kMinOpset, kMaxOpset);
  }
  return static_cast<int>(*version);
}

}  // namespace

Result<Graph> import_onnx(std::span<const std::byte> bytes, const OnnxOptions& options) {
  return aoq::guarded([&]() -> Result<Graph> {
    AOQ_ASSIGN(ModelProto model, decode_model(bytes, options.limits));
    if (!model.has_graph) return error(ErrorId::onnx_malformed, "the file has no graph: not an ONNX model");
    AOQ_ASSIGN(int opset, default_opset(model));
    if (!model.functions.empty()) {
      return error(Code::unsupported, "the model has {} local functions, such as {}: inline them with onnx.inliner",
                   model.functions.size(), model.functions[0]);
    }
    return Importer(model, options, opset).run();
  });
}

Result<Tensor> read_tensor(std::span<const std::byte> bytes) {
  return aoq::guarded([&]() -> Result<Tensor> {
    OnnxOptions options;
    AOQ_ASSIGN(TensorProto proto, decode_tensor(bytes, options.limits));
    return to_tensor(proto, options);
  });
}

}  // namespace aoq::onnx
