#include "tests/golden/module_chain.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "formats/io/file.h"
#include "ir/interpreter.h"
#include "tests/golden/run.h"

namespace aoq::golden {
namespace {

// What a state dict does not tell about a recurrent module.
struct Unknown {
  bool batch_first = false;
  bool is_relu = false;  // of RNN and RNNCell
};

Result<Tensor> state(const Case& c, const ChainModule& m, const std::string& key) {
  return c.input(("state." + m.name + "." + key).c_str());
}

// Adds nodes at the end of a graph for one module.
class ModuleBuilder {
 public:
  ModuleBuilder(const Case& c, Graph& graph, const ChainModule& module) : c_(c), graph_(graph), module_(module) {}

  Result<Value*> build(Value* x, const Unknown& unknown) {
    if (module_.type == "Linear") return linear(x);
    if (module_.type == "ReLU") return add(Op::relu, {x});
    if (module_.type == "Tanh") return add(Op::tanh, {x});
    if (module_.type == "Sigmoid") return add(Op::sigmoid, {x});
    if (module_.type == "Dropout" || module_.type == "Identity") return x;
    if (module_.type.ends_with("Cell")) return cell(x, unknown);
    return sequence(x, unknown);
  }

 private:
  Result<Node*> node(Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
    AOQ_ASSIGN(Node * n, graph_.create(op, std::move(inputs), std::move(attributes)));
    n->scope = {module_.name, module_.type};
    n->origins = {module_.name};
    return n;
  }
  Result<Value*> add(Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
    AOQ_ASSIGN(Node * n, node(op, std::move(inputs), std::move(attributes)));
    return n->output();
  }
  Result<Value*> permute(Value* x, std::vector<std::int64_t> order) {
    return add(Op::permute, {x}, {{"perm", std::move(order)}});
  }
  Result<Value*> reshape(Value* x, std::vector<Dim> shape) {
    return add(Op::reshape, {x}, {{"shape", std::move(shape)}});
  }

  Result<Value*> linear(Value* x) {
    AOQ_ASSIGN(const Tensor weight, state(c_, module_, "weight"));
    const Result<Tensor> bias = state(c_, module_, "bias");
    return add(Op::linear, {x, graph_.constant(weight), bias.ok() ? graph_.constant(*bias) : nullptr});
  }

  bool is_lstm() const { return module_.type.starts_with("LSTM"); }
  bool is_gru() const { return module_.type.starts_with("GRU"); }
  // PyTorch's gates in the order of ours: i f g o as i o f g, r z n as z r n.
  std::vector<std::int64_t> gate_order() const {
    if (is_lstm()) return {0, 3, 1, 2};
    return is_gru() ? std::vector<std::int64_t>{1, 0, 2} : std::vector<std::int64_t>{0};
  }

  Status append_gates(const Tensor& from, std::vector<float>& to) const {
    const std::vector<std::int64_t> order = gate_order();
    const std::span<const float> values = from.as<float>();
    const std::size_t block = values.size() / order.size();
    if (block * order.size() != values.size()) return error(Code::invalid_data, "{}: odd number of rows", module_.name);
    for (std::int64_t gate : order) {
      const auto part = values.subspan(static_cast<std::size_t>(gate) * block, block);
      to.insert(to.end(), part.begin(), part.end());
    }
    return {};
  }

  // Weights of all directions, with suffixes such as "_l0" and "_l0_reverse".
  struct Weights {
    Tensor w, r;
    std::optional<Tensor> bias;
    std::int64_t hidden = 0;
  };
  Result<Weights> weights(const std::vector<std::string>& suffixes) const {
    std::vector<float> w, r, bias;
    std::int64_t input = 0, hidden = 0;
    for (const std::string& suffix : suffixes) {
      AOQ_ASSIGN(const Tensor ih, state(c_, module_, "weight_ih" + suffix));
      AOQ_ASSIGN(const Tensor hh, state(c_, module_, "weight_hh" + suffix));
      input = ih.shape()[1];
      hidden = hh.shape()[1];
      AOQ_TRY(append_gates(ih, w));
      AOQ_TRY(append_gates(hh, r));
      const Result<Tensor> bias_ih = state(c_, module_, "bias_ih" + suffix);
      if (!bias_ih.ok()) continue;
      AOQ_ASSIGN(const Tensor bias_hh, state(c_, module_, "bias_hh" + suffix));
      AOQ_TRY(append_gates(*bias_ih, bias));
      AOQ_TRY(append_gates(bias_hh, bias));
    }
    const auto d = static_cast<std::int64_t>(suffixes.size());
    const auto rows = static_cast<std::int64_t>(gate_order().size()) * hidden;
    Weights out;
    out.hidden = hidden;
    AOQ_ASSIGN(out.w, Tensor::from_values<float>(DType::f32, {d, rows, input}, w));
    AOQ_ASSIGN(out.r, Tensor::from_values<float>(DType::f32, {d, rows, hidden}, r));
    if (bias.empty()) return out;
    AOQ_ASSIGN(out.bias, Tensor::from_values<float>(DType::f32, {d, 2 * rows}, bias));
    return out;
  }

  // x [T, B, I] through one layer; result 0 is y [T, d, B, H].
  Result<Node*> layer(Value* x, const std::vector<std::string>& suffixes, const Unknown& unknown) {
    AOQ_ASSIGN(const Weights w, weights(suffixes));
    const bool both = suffixes.size() == 2;
    Attributes a{{"hidden", w.hidden}, {"direction", std::string(both ? "bidirectional" : "forward")}};
    if (is_gru()) a.set("linear_before_reset", true);
    if (unknown.is_relu) a.set("activations", std::vector<std::string>(suffixes.size(), "relu"));
    const Op op = is_lstm() ? Op::lstm : is_gru() ? Op::gru : Op::rnn;
    Value* bias = w.bias ? graph_.constant(*w.bias) : nullptr;
    return node(op, {x, graph_.constant(w.w), graph_.constant(w.r), bias}, std::move(a));
  }

  Result<Value*> sequence(Value* x, const Unknown& unknown) {
    const bool is_batched = x->type().rank() == 3;
    if (!is_batched) {
      AOQ_ASSIGN(x, reshape(x, {x->type().shape[0], 1, x->type().shape[1]}));
    } else if (unknown.batch_first) {
      AOQ_ASSIGN(x, permute(x, {1, 0, 2}));
    }
    for (int k = 0; k == 0 || state(c_, module_, fmt::format("weight_ih_l{}", k)).ok(); ++k) {
      std::vector<std::string> suffixes{fmt::format("_l{}", k)};
      const std::string reverse = suffixes[0] + "_reverse";
      if (state(c_, module_, "weight_ih" + reverse).ok()) suffixes.push_back(reverse);
      AOQ_ASSIGN(const Node* n, layer(x, suffixes, unknown));
      const std::vector<Dim>& y = n->output()->type().shape;  // [T, d, B, H]
      AOQ_ASSIGN(x, permute(n->output(), {0, 2, 1, 3}));
      AOQ_ASSIGN(x, reshape(x, {y[0], y[2], y[1] * y[3]}));
    }
    if (!is_batched) return reshape(x, {x->type().shape[0], x->type().shape[2]});
    return unknown.batch_first ? permute(x, {1, 0, 2}) : Result<Value*>(x);
  }

  Result<Value*> cell(Value* x, const Unknown& unknown) {
    AOQ_ASSIGN(x, reshape(x, {1, x->type().shape[0], x->type().shape[1]}));
    AOQ_ASSIGN(const Node* n, layer(x, {""}, unknown));
    const std::vector<Dim>& state_shape = n->output(1)->type().shape;  // [1, B, H]
    return reshape(n->output(1), {state_shape[1], state_shape[2]});
  }

  const Case& c_;
  Graph& graph_;
  const ChainModule& module_;
};

bool is_recurrent(const std::string& type) {
  return type == "LSTM" || type == "GRU" || type == "RNN" || type.ends_with("Cell");
}

Type type_of(const Tensor& t) {
  return Type{t.dtype(), {t.shape().begin(), t.shape().end()}, std::nullopt};
}

// The largest difference; infinity for another shape.
double distance(const Tensor& a, const Tensor& b) {
  if (!std::ranges::equal(a.shape(), b.shape())) return std::numeric_limits<double>::infinity();
  double most = 0;
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    most = std::max(most, static_cast<double>(std::fabs(a.as<float>()[i] - b.as<float>()[i])));
  }
  return most;
}

Result<Graph> one_module(const Case& c, const ChainModule& module, const Tensor& input, const Unknown& unknown) {
  Graph graph;
  Value* x = graph.input("x", type_of(input));
  AOQ_ASSIGN(Value * y, ModuleBuilder(c, graph, module).build(x, unknown));
  AOQ_TRY(graph.output({y}, {"y"}));
  return graph;
}

// The float module that comes nearest to what the quantized one gave: its rounding errors are small beside any of these
// choices.
Result<Unknown> find_unknown(const Case& c, const ChainModule& module, const RecordedLayer& recorded) {
  Unknown best;
  double least = std::numeric_limits<double>::infinity();
  for (const Unknown unknown :
       {Unknown{true, false}, Unknown{false, false}, Unknown{true, true}, Unknown{false, true}}) {
    if (unknown.is_relu && !module.type.starts_with("RNN")) continue;
    AOQ_ASSIGN(Graph graph, one_module(c, module, recorded.input, unknown));
    AOQ_ASSIGN(const Tensor y, run_on_cpu(std::move(graph), {recorded.input}));
    const double found = distance(y, recorded.output);
    if (found >= least) continue;
    least = found;
    best = unknown;
  }
  return best;
}

// ---- what lies between layers

Result<Value*> last_of(Graph& graph, Value* x, std::int64_t axis) {
  const std::vector<Dim>& shape = x->type().shape;
  const std::int64_t size = shape[static_cast<std::size_t>(axis)].constant();
  AOQ_ASSIGN(const Tensor index,
             Tensor::from_values<std::int64_t>(DType::i64, {}, std::vector<std::int64_t>{size - 1}));
  AOQ_ASSIGN(Node * n, graph.create(Op::gather, {x, graph.constant(index)}, {{"axis", axis}}));
  return n->output();
}

Result<Value*> mean_of(Graph& graph, Value* x, std::int64_t axis) {
  AOQ_ASSIGN(Node * n,
             graph.create(Op::reduce_mean, {x}, {{"axes", std::vector<std::int64_t>{axis}}, {"keepdims", false}}));
  return n->output();
}

using Link = Result<Value*> (*)(Graph& graph, Value* x);
constexpr Link kLinks[] = {
    [](Graph&, Value* x) -> Result<Value*> { return x; },
    [](Graph& g, Value* x) { return last_of(g, x, 1); },
    [](Graph& g, Value* x) { return last_of(g, x, 0); },
    [](Graph& g, Value* x) { return mean_of(g, x, 1); },
    [](Graph& g, Value* x) { return mean_of(g, x, 0); },
    [](Graph& g, Value* x) -> Result<Value*> {
      AOQ_ASSIGN(Node * n, g.create(Op::relu, {x}));
      return n->output();
    },
};

// The first link that makes `to` of `from`.
Result<Link> find_link(const Tensor& from, const Tensor& to) {
  for (const Link link : kLinks) {
    Graph graph;
    Value* x = graph.input("x", type_of(from));
    const Result<Value*> y = link(graph, x);
    if (!y.ok()) continue;
    AOQ_TRY(graph.output({*y}, {"y"}));
    AOQ_ASSIGN(const Tensor made, run_on_cpu(std::move(graph), {from}));
    if (distance(made, to) <= 1e-6) return link;
  }
  return error(Code::unsupported, "what the model does between two layers is none of the links that are known");
}

constexpr std::string_view kKnown[] = {"LSTM",   "GRU",  "RNN",  "LSTMCell", "GRUCell", "RNNCell",
                                       "Linear", "ReLU", "Tanh", "Sigmoid",  "Dropout", "Identity"};
constexpr std::string_view kInside[] = {"ModuleList", "PackedParameter", "LinearPackedParams", "Sequential"};

}  // namespace

std::optional<RecordedLayer> recorded_layer(const Case& c, const std::string& name) {
  const std::string key = "layer." + name;
  if (!c.has_output(key.c_str())) return std::nullopt;
  const Json& entry = c.output_json(key.c_str());
  Result<Tensor> input = c.tensor(entry[0]), output = c.tensor(entry[1]);
  if (!input.ok() || !output.ok()) return std::nullopt;
  return RecordedLayer{std::move(*input), std::move(*output)};
}

Result<std::vector<ChainModule>> read_chain(const Case& c) {
  AOQ_ASSIGN(const std::string folder, json_string(c.args(), "directory"));
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file,
             MappedFile::open(c.directory() + "/" + folder + "/modules_converted.txt"));
  std::istringstream lines(std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()));
  std::vector<ChainModule> modules;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(" | "), second = line.find(" | ", first + 3);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string path = line.substr(first + 3, second - first - 3);
    ChainModule m{line.substr(0, first), path.substr(path.rfind('.') + 1)};
    m.is_dynamic = path.starts_with("torch.ao.nn.quantized.dynamic.");
    m.is_float16 = line.find("float16", second) != std::string::npos;
    if (std::ranges::find(kInside, m.type) != std::end(kInside)) {
      // The packed weights of a linear module say its dtype.
      if (m.type == "LinearPackedParams" && !modules.empty()) modules.back().is_float16 = m.is_float16;
      continue;
    }
    if (std::ranges::find(kKnown, m.type) == std::end(kKnown)) {
      return error(Code::unsupported, "module {} is a {}, which has no form here", m.name, m.type);
    }
    modules.push_back(std::move(m));
  }
  return modules;
}

Result<Graph> layer_graph(const Case& c, const ChainModule& module, const RecordedLayer& recorded) {
  Unknown unknown;
  if (is_recurrent(module.type)) {
    AOQ_ASSIGN(unknown, find_unknown(c, module, recorded));
  }
  return one_module(c, module, recorded.input, unknown);
}

Result<Graph> chain_graph(const Case& c, const std::vector<ChainModule>& modules) {
  AOQ_ASSIGN(const std::vector<Tensor> test, c.inputs("test"));
  Graph graph;
  Value* x = graph.input("x", type_of(test[0]));
  std::optional<Tensor> known = test[0];
  for (const ChainModule& m : modules) {
    const std::optional<RecordedLayer> recorded = recorded_layer(c, m.name);
    if (known && recorded) {
      AOQ_ASSIGN(const Link link, find_link(*known, recorded->input));
      AOQ_ASSIGN(x, link(graph, x));
    }
    Unknown unknown;
    if (recorded && is_recurrent(m.type)) {
      AOQ_ASSIGN(unknown, find_unknown(c, m, *recorded));
    }
    AOQ_ASSIGN(x, ModuleBuilder(c, graph, m).build(x, unknown));
    known = recorded ? std::optional(recorded->output) : std::nullopt;
  }
  if (known) {
    AOQ_ASSIGN(const Tensor y, c.tensor(c.output_json("y")[0]));
    AOQ_ASSIGN(const Link link, find_link(*known, y));
    AOQ_ASSIGN(x, link(graph, x));
  }
  AOQ_TRY(graph.output({x}, {"y"}));
  return graph;
}

}  // namespace aoq::golden
