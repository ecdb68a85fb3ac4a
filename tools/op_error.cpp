#include "tools/op_error.h"

#include <algorithm>

#include "passes/quantize/equalize.h"
#include "tools/narrow_layer.h"

namespace aoq::tools {

namespace {

bool corresponds(const Node& integer, const Node& real) {
  std::string_view name = integer.def().name, other = real.def().name;
  if (name == other || (name.starts_with("q") && name.substr(1) == other)) return true;
  if (is_narrow_layer(integer)) return real.is(Op::linear);
  if (integer.is(Op::qavg_pool)) return real.is(Op::reduce_mean);
  return integer.is(Op::lookup) && real.def().has_trait(kElementwise) && real.inputs().size() == 1;
}

const Node* find_counterpart(const std::multimap<std::string, const Node*>& by_label, const Node& node) {
  auto [begin, end] = by_label.equal_range(node.label());
  for (auto it = begin; it != end; ++it) {
    if (corresponds(node, *it->second)) return it->second;
  }
  return nullptr;
}

// The operand of the integer op that stands for operand `i` of the float op.
const Value* operand_for(const Node& integer, const Node& real, std::size_t i) {
  if (i == 0 && is_narrow_layer(integer)) return narrow_layer_input(integer);
  const char* name = real.def().inputs[i].name;
  int index = name != nullptr ? integer.def().input_index(name) : -1;
  // The residual of a linear layer is added by an op of its own.
  if (index < 0 && is_narrow_layer(integer)) return nullptr;
  return integer.input(index >= 0 ? static_cast<std::size_t>(index) : i);
}

const double* real_attribute(const Node& n, const std::string& name) {
  const Attribute* a = n.attributes().find(name);
  return a != nullptr ? std::get_if<double>(a) : nullptr;
}

std::int64_t integer_attribute(const Node& n, const std::string& name) {
  const Attribute* a = n.attributes().find(name);
  const std::int64_t* value = a != nullptr ? std::get_if<std::int64_t>(a) : nullptr;
  return value != nullptr ? *value : 0;
}

// Of the result of an op that equalization can change.
std::size_t channel_axis(const Node& n) {
  bool is_last = !n.is(Op::qconv) || n.attributes().boolean("channels_last");
  return is_last && !n.output()->type().shape.empty() ? n.output()->type().shape.size() - 1 : 1;
}

}  // namespace

// Scales stand in the attributes of the ops that make or read codes; ops that only move codes pass them on.
void OpErrors::find_scales(const Graph& graph) {
  for (const Node* n : graph.nodes()) {
    std::string prefix = n->is(Op::quantize) ? "" : "out_";
    if (const double* scale = real_attribute(*n, prefix + "scale"); scale != nullptr && n->output_count() == 1) {
      scales_[n->output()] = {*scale, integer_attribute(*n, prefix + "zero_point"), channel_factors(graph, *n),
                              channel_axis(*n)};
    }
    for (std::size_t i = 0; i < n->inputs().size() && i < n->def().inputs.size(); ++i) {
      if (n->input(i) == nullptr || n->def().inputs[i].name == nullptr) continue;
      std::string operand = n->def().inputs[i].name;
      if (n->is(Op::dequantize) && i == 0) operand.clear();
      std::string key = operand.empty() ? std::string() : operand + "_";
      if (const double* scale = real_attribute(*n, key + "scale"); scale != nullptr && !n->is(Op::quantize)) {
        scales_.try_emplace(n->input(i), Scale{*scale, integer_attribute(*n, key + "zero_point"), {}, 0});
      }
    }
  }
  auto moves = [](const Node* n) {
    return n->output_count() == 1 && !n->inputs().empty() && n->input(0) != nullptr &&
           n->output()->type().dtype == n->input(0)->type().dtype && !n->def().has_trait(kLoweredOnly);
  };
  // Where channels lie behind an op that moves them is not followed.
  for (const Node* n : graph.nodes()) {
    if (!moves(n) || !scales_.contains(n->input(0)) || !scales_[n->input(0)].factors.empty()) continue;
    scales_.try_emplace(n->output(), scales_[n->input(0)]);
  }
  for (const Node* n = graph.last(); n != nullptr; n = n->previous()) {
    if (moves(n) && scales_.contains(n->output())) scales_.try_emplace(n->input(0), scales_[n->output()]);
  }
}

bool OpErrors::is_readable(const Value* value) const {
  return value->type().dtype == DType::f32 || scales_.contains(value);
}

Result<OpErrors> OpErrors::make(const Graph& reference, const Graph& graph, Executor& executor,
                                const Backend& backend) {
  OpErrors errors;
  errors.find_scales(graph);
  std::multimap<std::string, const Node*> by_label;
  for (const Node* n : reference.nodes()) {
    if (!n->def().has_trait(kStructural)) by_label.emplace(n->label(), n);
  }
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::quantize) && n->inputs().size() == 1 && errors.is_readable(n->output())) {
      errors.comparisons_.push_back({.node = n, .inputs = {n->input(0)}});
      continue;
    }
    const bool is_compared = n->def().has_trait(kLoweredOnly) || n->is(Op::qembedding) || is_narrow_layer(*n);
    if (!is_compared || n->output_count() != 1 || !errors.is_readable(n->output())) continue;
    const Node* counterpart = find_counterpart(by_label, *n);
    if (counterpart == nullptr) continue;
    AOQ_TRY(errors.add(*n, *counterpart, executor));
    AOQ_TRY(errors.add_weight(graph, *n, *counterpart, backend));
  }
  std::sort(errors.weights_.begin(), errors.weights_.end(), [](const Entry& a, const Entry& b) {
    return a.sqnr_db != b.sqnr_db ? a.sqnr_db < b.sqnr_db : a.name < b.name;
  });
  return errors;
}

Status OpErrors::add(const Node& node, const Node& reference, Executor& executor) {
  Comparison c{.node = &node, .single = std::make_unique<Graph>()};
  Graph& single = *c.single;
  single.stage = Stage::lowered;
  std::vector<Value*> operands;
  for (std::size_t i = 0; i < reference.inputs().size(); ++i) {
    const Value* own = reference.input(i);
    const Value* other = own != nullptr ? operand_for(node, reference, i) : nullptr;
    if (const Tensor* constant = constant_tensor(own)) {
      operands.push_back(single.constant(*constant));
    } else if (own == nullptr || other == nullptr) {
      operands.push_back(nullptr);
    } else {
      if (other->def()->is(Op::constant) || !is_readable(other)) return {};
      Type type{DType::f32, other->type().shape, std::nullopt};
      operands.push_back(single.input(fmt::format("x{}", i), std::move(type)));
      c.inputs.push_back(other);
    }
  }
  single.symbols = {};
  for (const Value* v : c.inputs) {
    std::vector<std::string> names;
    for (const Dim& d : v->type().shape) d.collect_symbols(names);
    for (const std::string& name : names) single.symbols[name] = SymbolRange{0, INT64_MAX};
  }
  Attributes attributes = reference.attributes();
  for (const char* name : {"activation", "activation_min", "activation_max", "channels_last"}) {
    const Attribute* a = node.attributes().find(name);
    if (a != nullptr && attributes.has(name)) attributes.set(name, *a);
  }
  // So is its activation.
  if (is_narrow_layer(node) && !node.attributes().has("activation")) attributes.set("activation", std::string("none"));
  // An op whose form differs between the two models (another layout, say) cannot be compared.
  Result<Node*> made = single.create(reference.op(), std::move(operands), std::move(attributes));
  if (!made.ok() || !single.output({(*made)->output()}, {"y"}).ok()) return {};
  Result<std::unique_ptr<Executable>> executable = executor.prepare(single);
  if (!executable.ok()) return {};
  c.executable = std::move(*executable);
  comparisons_.push_back(std::move(c));
  return {};
}

// Codes [out, in, ...] with one scale, or one for each output channel, and the float weight.
Status OpErrors::add_weight(const Graph& graph, const Node& node, const Node& reference, const Backend& backend) {
  if (is_narrow_layer(node)) return add_narrow_weight(node, reference, backend);
  if (!node.is(Op::qconv) && !node.is(Op::qlinear)) return {};
  AOQ_ASSIGN(const std::optional<Tensor> codes, plain_codes(node.input(1), backend));
  const Tensor *real = constant_tensor(reference.input(1)), *scale = constant_tensor(node.input(2));
  if (real == nullptr || !codes || scale == nullptr || codes->dtype() != DType::i8) return {};
  if (real->dtype() != DType::f32 || real->shape() != codes->shape() || real->element_count() == 0) return {};
  const std::span<const float> w = real->as<float>(), scales = scale->as<float>();
  const std::span<const std::int8_t> c = codes->as<std::int8_t>();
  const std::size_t outs = static_cast<std::size_t>(codes->shape()[0]), row = w.size() / outs;
  if (scales.size() != 1 && scales.size() != outs) return {};
  std::vector<float> y(w.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = static_cast<float>(c[i]) * scales[scales.size() == 1 ? 0 : i / row];
  }
  take_back_weight(graph, node, codes->shape(), y);
  ErrorFigures::Codes range = whole_range(codes->view());
  // Symmetric weights rarely use -128: then the range ends at -127.
  if (std::find(c.begin(), c.end(), std::int8_t{-128}) == c.end()) range.lowest = -127;
  ErrorFigures figures;
  figures.add(w, y, range);
  const Node& constant = *reference.input(1)->def();
  const std::string name = constant.origins.empty() ? node.label() + ".weight" : constant.label();
  weights_.push_back({name, node.def().name, figures.sqnr_db(), figures.relative_error(), figures.saturation()});
  return {};
}

Status OpErrors::add_narrow_weight(const Node& node, const Node& reference, const Backend& backend) {
  AOQ_ASSIGN(const std::optional<NarrowWeight> narrow, narrow_weight(node, backend));
  const Tensor* real = constant_tensor(reference.input(1));
  if (!narrow || real == nullptr || real->dtype() != DType::f32) return {};
  const std::span<const float> w = real->as<float>();
  if (w.size() != narrow->values.size() || w.empty()) return {};
  ErrorFigures figures;
  // Floats round to their ends, and an entry of a codebook has none.
  const bool has_ends = is_integer(narrow->codes.dtype()) && !node.is(Op::linear);
  if (has_ends) {
    figures.add(w, narrow->values, whole_range(narrow->codes.view()));
  } else {
    figures.add(w, narrow->values);
  }
  const Node& constant = *reference.input(1)->def();
  const std::string name = constant.origins.empty() ? node.label() + ".weight" : constant.label();
  weights_.push_back({name, node.def().name, figures.sqnr_db(), figures.relative_error(), figures.saturation()});
  return {};
}

// w' = w * f(output channel) / f(input channel).
void OpErrors::take_back_weight(const Graph& graph, const Node& n, const std::vector<std::int64_t>& shape,
                                std::span<float> values) const {
  const std::vector<float> out = channel_factors(graph, n);
  const auto read = scales_.find(n.input(0));
  const std::vector<float> in = read != scales_.end() ? read->second.factors : std::vector<float>();
  const auto outs = static_cast<std::size_t>(shape[0]), ins = static_cast<std::size_t>(shape[1]);
  const std::size_t inner = values.size() / (outs * ins);
  const std::size_t groups = n.is(Op::qconv) ? static_cast<std::size_t>(n.attributes().integer("groups")) : 1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t o = i / (ins * inner), channel = o / (outs / groups) * ins + i / inner % ins;
    if (out.size() == outs) values[i] /= out[o];
    if (in.size() == ins * groups) values[i] *= in[channel];
  }
}

const Tap& OpErrors::tap() {
  if (!tap_.values.empty() || comparisons_.empty()) return tap_;
  for (const Comparison& c : comparisons_) {
    tap_.values.push_back(c.node->output());
    tap_.values.insert(tap_.values.end(), c.inputs.begin(), c.inputs.end());
  }
  std::sort(tap_.values.begin(), tap_.values.end());
  tap_.values.erase(std::unique(tap_.values.begin(), tap_.values.end()), tap_.values.end());
  tap_.callback = [this](const Value& value, TensorView view) -> Status {
    AOQ_ASSIGN(seen_[&value], to_reals(value, view));
    if (!is_integer(view.dtype)) return {};
    AOQ_ASSIGN(Tensor codes, Tensor::make(view.dtype, {view.shape.begin(), view.shape.end()}));
    std::copy_n(view.data, codes.bytes().size(), codes.mutable_bytes().data());
    codes_[&value] = std::move(codes);
    return {};
  };
  return tap_;
}

Result<Tensor> OpErrors::to_reals(const Value& value, const TensorView& view) const {
  AOQ_ASSIGN(Tensor t, Tensor::make(DType::f32, {view.shape.begin(), view.shape.end()}));
  std::span<float> out = t.mutable_as<float>();
  if (view.dtype == DType::f32) {
    std::copy_n(view.data, out.size_bytes(), std::as_writable_bytes(out).data());
    return t;
  }
  const Scale& s = scales_.at(&value);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::int64_t code = load_integer(view.dtype, view.data, static_cast<std::int64_t>(i));
    out[i] = static_cast<float>(static_cast<double>(code - s.zero_point) * s.scale);
  }
  if (s.factors.empty() || s.axis >= view.shape.size()) return t;
  auto channels = static_cast<std::size_t>(view.shape[s.axis]);
  if (s.factors.size() != channels) return t;
  std::size_t inner = 1;
  for (std::size_t d = s.axis + 1; d < view.shape.size(); ++d) inner *= static_cast<std::size_t>(view.shape[d]);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] /= s.factors[i / inner % channels];
  return t;
}

Status OpErrors::finish_batch() {
  for (Comparison& c : comparisons_) {
    Status status = compare(c);
    if (!status.ok()) return std::move(status).with_context(describe(*c.node));
  }
  seen_.clear();
  codes_.clear();
  return {};
}

void OpErrors::add_figures(Comparison& c, std::span<const float> expected, std::span<const float> found) const {
  const auto codes = codes_.find(c.node->output());
  if (codes == codes_.end()) return c.error.add(expected, found);
  c.error.add(expected, found, whole_range(codes->second.view()));
}

Status OpErrors::compare(Comparison& c) {
  auto found = seen_.find(c.node->output());
  if (found == seen_.end()) return {};
  std::vector<Tensor> inputs;
  for (const Value* v : c.inputs) {
    auto it = seen_.find(v);
    if (it == seen_.end()) return {};
    inputs.push_back(it->second);
  }
  if (c.single == nullptr) {
    add_figures(c, inputs[0].as<float>(), found->second.as<float>());
    return {};
  }
  AOQ_ASSIGN(std::vector<Tensor> expected, c.executable->run(inputs, Tap{}));
  bool same_size = expected[0].element_count() == found->second.element_count() && expected[0].dtype() == DType::f32;
  if (!same_size)
    return error(Code::internal, "the float op gives {}, the integer op {}", shape_to_string(expected[0].shape()),
                 shape_to_string(found->second.shape()));
  add_figures(c, expected[0].as<float>(), found->second.as<float>());
  return {};
}

std::vector<OpErrors::Entry> OpErrors::entries() const {
  std::multimap<double, Entry> worst_first;  // equal ones stay in the graph's order
  for (const Comparison& c : comparisons_) {
    double sqnr_db = c.error.sqnr_db();
    worst_first.insert(
        {sqnr_db, {c.node->label(), c.node->def().name, sqnr_db, c.error.relative_error(), c.error.saturation()}});
  }
  std::vector<Entry> list;
  for (auto& [sqnr_db, entry] : worst_first) list.push_back(std::move(entry));
  return list;
}

}  // namespace aoq::tools
