#include "passes/quantize/simulate.h"

#include <algorithm>
#include <map>

#include "ir/interpreter.h"
#include "passes/pass.h"
#include "passes/quantize/equalize.h"
#include "passes/quantize/weights.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

// Factors by which channels along an axis were multiplied; empty: none were.
struct ChannelScale {
  std::vector<float> factors;
  std::size_t axis = 0;
};

// The node that makes a value, looking through stubs.
const Node& maker_of(const Value* v) {
  while (is_one_of(*v->def(), {Op::quantize, Op::dequantize})) v = v->def()->input(0);
  return *v->def();
}

ChannelScale scale_of(const Graph& graph, const Value* v) {
  const Node& maker = maker_of(v);
  const std::size_t rank = v->type().shape.size();
  const bool is_last = maker.is(Op::linear) || (maker.is(Op::conv) && maker.attributes().boolean("channels_last"));
  return {channel_factors(graph, maker), is_last && rank > 0 ? rank - 1 : 1};
}

void take_back(const ChannelScale& scale, std::span<const std::int64_t> shape, std::span<float> values) {
  if (scale.axis >= shape.size() || scale.factors.size() != static_cast<std::size_t>(shape[scale.axis])) return;
  std::size_t inner = 1;
  for (std::size_t d = scale.axis + 1; d < shape.size(); ++d) inner *= static_cast<std::size_t>(shape[d]);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= scale.factors[i / inner % scale.factors.size()];
}

bool is_plain_float(const Value* v) {
  return v->type().dtype == DType::f32 && !v->type().quantization;
}

std::string name_of(const Node& n) {
  return n.is(Op::input) ? n.attributes().string("name") : n.label();
}

// A value that follows from constants alone.
Result<std::optional<Tensor>> fixed_value(const Value* v) {
  if (const Tensor* t = constant_tensor(v)) return std::optional<Tensor>(*t);
  if (!is_one_of(*v->def(), {Op::dequantize, Op::dequantize_rows})) return std::optional<Tensor>();
  std::vector<Tensor> operands;
  for (const Value* input : v->def()->inputs()) {
    const Tensor* t = input != nullptr ? constant_tensor(input) : nullptr;
    if (input != nullptr && t == nullptr) return std::optional<Tensor>();
    AOQ_ASSIGN(Tensor absent, Tensor::make(DType::f32, {0}));
    operands.push_back(t != nullptr ? *t : std::move(absent));
  }
  AOQ_ASSIGN(std::vector<Tensor> results, evaluate_node(*v->def(), operands));
  return std::optional<Tensor>(std::move(results[0]));
}

}  // namespace

struct Simulation::Impl {
  Graph reference, graph;
  std::unique_ptr<Executable> run_reference, run_graph;

  struct Stub {
    const Value *real = nullptr, *codes = nullptr, *back = nullptr;  // codes: null for half precision
    Entry entry;
    ChannelScale scale;
    ErrorFigures figures = {};
  };
  struct Pair {
    const Value *reference = nullptr, *simulated = nullptr;
    Entry entry;
    ChannelScale scale;
    ErrorFigures figures = {};
  };
  std::vector<Stub> stubs;
  std::vector<Pair> pairs;
  std::vector<Entry> weights;
  Tap reference_tap, graph_tap;
  std::map<const Value*, Tensor> seen;

  Status build() {
    find_stubs();
    AOQ_TRY(find_counterparts());
    watch();
    return {};
  }

  // ---- what to look at

  void find_stubs() {
    for (const Node* n : graph.nodes()) {
      const Node* codes = n->inputs().empty() || n->input(0) == nullptr ? nullptr : n->input(0)->def();
      const bool is_integer_stub = n->is(Op::dequantize) && codes->is(Op::quantize);
      const bool is_half_stub = n->is(Op::cast) && codes->is(Op::cast) && codes->output()->type().dtype == DType::f16;
      if (!is_integer_stub && !is_half_stub) continue;
      const Value* real = codes->input(0);
      if (!is_plain_float(real)) continue;
      const Node& maker = maker_of(real);
      Entry entry{.name = codes->label(),
                  .op = std::string(maker.def().name),
                  .module = maker.scope.path,
                  .dtype = std::string(dtype_name(codes->output()->type().dtype))};
      stubs.push_back({real, is_integer_stub ? codes->output() : nullptr, n->output(), entry, scale_of(graph, real)});
    }
  }

  Status find_counterparts() {
    std::multimap<std::string, const Node*> by_name;
    for (const Node* n : reference.nodes()) {
      if (!n->is(Op::constant) && !n->is(Op::output)) by_name.emplace(name_of(*n), n);
    }
    for (const Node* n : graph.nodes()) {
      if (n->def().has_trait(kStructural)) continue;
      auto [begin, end] = by_name.equal_range(name_of(*n));
      const auto same = std::find_if(begin, end, [&](const auto& e) { return e.second->op() == n->op(); });
      if (same == end) continue;
      add_pairs(*same->second, *n);
      AOQ_TRY(add_weights(*same->second, *n));
    }
    return {};
  }

  void add_pairs(const Node& real, const Node& simulated) {
    for (std::size_t i = 0; i < simulated.output_count() && i < real.output_count(); ++i) {
      if (!is_plain_float(simulated.output(i)) || !is_plain_float(real.output(i))) continue;
      Entry entry{.name = simulated.label() + (i > 0 ? ":" + std::to_string(i) : ""),
                  .op = std::string(simulated.def().name),
                  .module = simulated.scope.path,
                  .dtype = "f32"};
      pairs.push_back({real.output(i), simulated.output(i), entry, scale_of(graph, simulated.output(i))});
    }
  }

  // ---- weights

  Status add_weights(const Node& real, const Node& simulated) {
    for (std::size_t i = 0; i < real.inputs().size(); ++i) {
      const Value* own = simulated.input(i);
      const Tensor* w = real.input(i) != nullptr ? constant_tensor(real.input(i)) : nullptr;
      if (own == nullptr || w == nullptr || w->dtype() != DType::f32) continue;
      const bool is_rounded =
          simulated.requested == kFloatArithmetic && constant_tensor(own) != nullptr && i > 0 && i < 3;
      const bool is_coded = is_one_of(*own->def(), {Op::dequantize, Op::dequantize_rows});
      if (is_coded || (is_rounded && weight_is_half(*w, *constant_tensor(own)))) {
        AOQ_TRY(add_weight(*real.input(i)->def(), simulated, i));
      }
    }
    return {};
  }

  // Biases stay as they are; weights that were rounded differ.
  static bool weight_is_half(const Tensor& w, const Tensor& own) {
    return own.dtype() == DType::f32 && own.shape() == w.shape() && !std::ranges::equal(w.bytes(), own.bytes());
  }

  Status add_weight(const Node& constant, const Node& n, std::size_t operand) {
    const Tensor& w = constant.attributes().tensor("value");
    const Value* own = n.input(operand);
    AOQ_ASSIGN(const std::optional<Tensor> back, fixed_value(own));
    if (!back || back->shape() != w.shape() || back->dtype() != DType::f32) return {};
    std::vector<float> x(w.as<float>().begin(), w.as<float>().end()),
        y(back->as<float>().begin(), back->as<float>().end());
    take_back_weight(n, operand, w.shape(), y);
    const Tensor* codes = own->def()->is(Op::dequantize) ? constant_tensor(own->def()->input(0)) : nullptr;
    ErrorFigures figures;
    if (codes != nullptr) {
      ErrorFigures::Codes range = whole_range(codes->view());
      // Symmetric weights rarely use -128: then the range ends at -127.
      const auto all = codes->as<std::int8_t>();
      if (std::ranges::find(all, std::int8_t{-128}) == all.end()) range.lowest = -127;
      figures.add(x, y, range);
    } else {
      figures.add(x, y);
    }
    const bool is_rows = own->def()->is(Op::dequantize_rows);
    const std::string dtype = is_rows            ? "u" + std::to_string(own->def()->attributes().integer("bits"))
                              : codes == nullptr ? "f16"
                                                 : std::string(dtype_name(codes->dtype()));
    const std::string name = constant.origins.empty() ? n.label() + ".weight" : constant.label();
    weights.push_back({name, std::string(n.def().name), n.scope.path, dtype, figures.relative_error(),
                       figures.sqnr_db(), figures.saturation()});
    return {};
  }

  // w' = w * f(output channel) / f(input channel).
  void take_back_weight(const Node& n, std::size_t operand, const std::vector<std::int64_t>& shape,
                        std::vector<float>& values) const {
    if (operand != 1 || !is_one_of(n, {Op::conv, Op::linear}) || shape.size() < 2) return;
    const std::vector<float> out = channel_factors(graph, n), in = scale_of(graph, n.input(0)).factors;
    const auto outs = static_cast<std::size_t>(shape[0]), ins = static_cast<std::size_t>(shape[1]);
    const std::size_t inner = values.size() / (outs * ins);
    const std::size_t groups = n.is(Op::conv) ? static_cast<std::size_t>(n.attributes().integer("groups")) : 1;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t o = i / (ins * inner), channel = o / (outs / groups) * ins + i / inner % ins;
      if (out.size() == outs) values[i] /= out[o];
      if (in.size() == ins * groups) values[i] *= in[channel];
    }
  }

  // ---- running

  void watch() {
    for (const Stub& s : stubs) {
      for (const Value* v : {s.real, s.codes, s.back}) {
        if (v != nullptr) graph_tap.values.push_back(v);
      }
    }
    for (const Pair& p : pairs) {
      reference_tap.values.push_back(p.reference);
      graph_tap.values.push_back(p.simulated);
    }
    for (Tap* tap : {&reference_tap, &graph_tap}) {
      std::ranges::sort(tap->values);
      const auto repeats = std::ranges::unique(tap->values);
      tap->values.erase(repeats.begin(), repeats.end());
      tap->callback = [this](const Value& v, TensorView view) -> Status {
        AOQ_ASSIGN(Tensor copy, Tensor::make(view.dtype, {view.shape.begin(), view.shape.end()}));
        std::copy_n(view.data, copy.bytes().size(), copy.mutable_bytes().data());
        seen[&v] = std::move(copy);
        return {};
      };
    }
  }

  Result<Outputs> run(std::span<const Tensor> inputs) {
    seen.clear();
    Outputs outputs;
    AOQ_ASSIGN(outputs.reference, run_reference->run(inputs, reference_tap));
    AOQ_ASSIGN(outputs.simulated, run_graph->run(ordered(inputs), graph_tap));
    for (Stub& s : stubs) add(s);
    for (Pair& p : pairs) add(p);
    seen.clear();
    return outputs;
  }

  // The graph's inputs, which have the reference's names.
  std::vector<Tensor> ordered(std::span<const Tensor> inputs) const {
    const std::vector<Node*> theirs = reference.input_nodes();
    std::vector<Tensor> own;
    for (const Node* n : graph.input_nodes()) {
      for (std::size_t i = 0; i < theirs.size() && i < inputs.size(); ++i) {
        if (name_of(*theirs[i]) == name_of(*n)) own.push_back(inputs[i]);
      }
    }
    return own;
  }

  std::optional<Tensor> real_values(const Value* v, const ChannelScale& scale) const {
    const auto it = seen.find(v);
    if (it == seen.end()) return std::nullopt;
    Result<Tensor> copy = Tensor::copy_of(DType::f32, it->second.shape(), it->second.bytes());
    if (!copy.ok()) return std::nullopt;
    take_back(scale, copy->shape(), copy->mutable_as<float>());
    return std::move(*copy);
  }

  void add(Stub& s) {
    const std::optional<Tensor> x = real_values(s.real, s.scale), y = real_values(s.back, s.scale);
    const auto codes = seen.find(s.codes);
    if (!x || !y) return;
    if (codes == seen.end()) return s.figures.add(x->as<float>(), y->as<float>());
    s.figures.add(x->as<float>(), y->as<float>(), whole_range(codes->second.view()));
  }

  void add(Pair& p) {
    const std::optional<Tensor> x = real_values(p.reference, {}), y = real_values(p.simulated, p.scale);
    if (x && y && x->shape() == y->shape()) p.figures.add(x->as<float>(), y->as<float>());
  }

  template <class T>
  static std::vector<Entry> entries(const std::vector<T>& list) {
    std::vector<Entry> all;
    for (const T& t : list) {
      Entry e = t.entry;
      e.relative_error = t.figures.relative_error();
      e.sqnr_db = t.figures.sqnr_db();
      e.saturation = t.figures.saturation();
      all.push_back(std::move(e));
    }
    return all;
  }
};

Result<Graph> quantized_copy(const Graph& prepared, const Recipe& recipe, Ranges& ranges) {
  Graph graph = prepared.clone();
  PassContext context{.recipe = &recipe, .ranges = &ranges};
  const std::string convert[] = {"convert"};
  AOQ_TRY(run_passes(graph, convert, context).status());
  return graph;
}

Simulation::Simulation(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Simulation::Simulation(Simulation&&) noexcept = default;
Simulation& Simulation::operator=(Simulation&&) noexcept = default;
Simulation::~Simulation() = default;

Result<Simulation> Simulation::make(const Graph& reference, const Graph& graph, Executor& executor) {
  if (reference.stage != Stage::traced && reference.stage != Stage::prepared) {
    return error(Code::invalid_argument, "simulate: the reference is {}, expected a float graph",
                 stage_name(reference.stage));
  }
  if (graph.stage != Stage::quantized) {
    return error(Code::invalid_argument, "simulate: the graph is {}, expected quantized: run convert first",
                 stage_name(graph.stage));
  }
  auto impl = std::make_unique<Impl>();
  impl->reference = reference.clone();
  impl->graph = graph.clone();
  if (impl->reference.input_nodes().size() != impl->graph.input_nodes().size()) {
    return error(Code::invalid_argument, "simulate: the graphs have {} and {} inputs, expected the same model",
                 impl->reference.input_nodes().size(), impl->graph.input_nodes().size());
  }
  AOQ_TRY(impl->build());
  AOQ_ASSIGN(impl->run_reference, executor.prepare(impl->reference));
  AOQ_ASSIGN(impl->run_graph, executor.prepare(impl->graph));
  return Simulation(std::move(impl));
}

Result<Simulation::Outputs> Simulation::run(std::span<const Tensor> inputs) {
  return impl_->run(inputs);
}

std::vector<Simulation::Entry> Simulation::activations() const {
  return Impl::entries(impl_->stubs);
}

std::vector<Simulation::Entry> Simulation::weights() const {
  return impl_->weights;
}

std::vector<Simulation::Entry> Simulation::values() const {
  return Impl::entries(impl_->pairs);
}

}  // namespace aoq
