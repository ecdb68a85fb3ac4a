#include "ir/nn/recurrent.h"

#include <cmath>
#include <cstring>

#include "ir/nn/build.h"

namespace aoq::nn {

namespace {

const std::vector<int> kLstmOrder = {0, 3, 1, 2};  // i o f c from i f g o
const std::vector<int> kGruOrder = {1, 0, 2};      // z r h from r z n
const std::vector<int> kRnnOrder = {0};

// Rows of `from`, in blocks of `hidden`, to `out` in the IR's order.
void copy_gates(const Tensor& from, const std::vector<int>& order, std::byte* out) {
  const std::size_t block = static_cast<std::size_t>(from.byte_size()) / order.size();
  for (std::size_t g = 0; g < order.size(); ++g) {
    std::memcpy(out + g * block, from.bytes().data() + static_cast<std::size_t>(order[g]) * block, block);
  }
}

// One tensor per direction: first, then second behind it where there is one; [D, G*H (twice), ...].
Result<Tensor> stack_gates(const std::vector<std::pair<const Tensor*, const Tensor*>>& directions,
                           const std::vector<int>& order) {
  const Tensor& first = *directions[0].first;
  std::vector<std::int64_t> shape = first.shape();
  if (directions[0].second != nullptr) shape[0] *= 2;
  shape.insert(shape.begin(), static_cast<std::int64_t>(directions.size()));
  AOQ_ASSIGN(Tensor out, Tensor::make(DType::f32, std::move(shape)));
  std::byte* to = out.mutable_bytes().data();
  for (const auto& [a, b] : directions) {
    for (const Tensor* part : {a, b}) {
      if (part == nullptr) continue;
      copy_gates(*part, order, to);
      to += part->byte_size();
    }
  }
  return out;
}

Proxy constant(const Proxy& like, Result<Tensor> value, std::string label) {
  if (value.ok()) return like.tracer()->constant(std::move(*value), std::move(label));
  like.tracer()->fail(std::move(value).status());
  return {like.tracer(), nullptr};
}

Attributes attributes_of(const RecurrentBase::Form& form, std::int64_t hidden, const RecurrentOptions& options) {
  Attributes a{{"hidden", hidden}};
  if (options.bidirectional) a.set("direction", std::string("bidirectional"));
  if (form.op == Op::gru) a.set("linear_before_reset", true);
  if (form.op == Op::rnn && options.nonlinearity != "tanh") {
    a.set("activations", std::vector<std::string>(options.bidirectional ? 2 : 1, options.nonlinearity));
  }
  return a;
}

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

}  // namespace

RecurrentBase::RecurrentBase(Slot slot, Form form, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : Layer(std::move(slot)), form_(std::move(form)), hidden_(hidden), options_(std::move(options)) {
  const auto gate_count = static_cast<std::int64_t>(form_.order.size());
  const std::int64_t directions = options_.bidirectional ? 2 : 1;
  auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    weights_.emplace(name, std::make_unique<Parameter>(*this, name, std::move(shape)));
  };
  for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
    for (std::int64_t d = 0; d < directions; ++d) {
      const std::string suffix = "_l" + std::to_string(layer) + (d == 1 ? "_reverse" : "");
      add("weight_ih" + suffix, {gate_count * hidden, layer == 0 ? input : directions * hidden});
      add("weight_hh" + suffix, {gate_count * hidden, hidden});
      if (!options_.bias) continue;
      add("bias_ih" + suffix, {gate_count * hidden});
      add("bias_hh" + suffix, {gate_count * hidden});
    }
  }
}

Proxy RecurrentBase::gates(const Proxy& like, std::int64_t layer, const char* first, const char* second) {
  std::vector<std::pair<const Tensor*, const Tensor*>> directions;
  for (int d = 0; d < (options_.bidirectional ? 2 : 1); ++d) {
    const std::string suffix = "_l" + std::to_string(layer) + (d == 1 ? "_reverse" : "");
    const Tensor* a = &weights_.at(first + suffix)->tensor();
    const Tensor* b = second == nullptr ? nullptr : &weights_.at(second + suffix)->tensor();
    directions.emplace_back(a, b);
  }
  return constant(like, stack_gates(directions, form_.order), join(path(), first + ("_l" + std::to_string(layer))));
}

RecurrentResult RecurrentBase::run_layer(std::int64_t layer, const Proxy& x, const Proxy& h, const Proxy& c) {
  Tracer* tracer = x.tracer();
  const std::int64_t directions = options_.bidirectional ? 2 : 1;
  auto state = [&](const Proxy& s) {
    return s.is_present() ? build::slice(s, 0, layer * directions, (layer + 1) * directions) : Proxy();
  };
  const Proxy bias = options_.bias ? gates(x, layer, "bias_ih", "bias_hh") : Proxy();
  std::vector<Proxy> inputs{
      x, gates(x, layer, "weight_ih", nullptr), gates(x, layer, "weight_hh", nullptr), bias, {}, state(h)};
  if (form_.op == Op::lstm) inputs.push_back(state(c));
  const Proxies out = tracer->emit_all(form_.op, inputs, attributes_of(form_, hidden_, options_));
  // [T, D, B, H] to [T, B, D*H].
  const Proxy y = build::permute(out[0], {0, 2, 1, 3});
  RecurrentResult result;
  result.output = build::reshape(y, {y.size(0), y.size(1), Dim(directions * hidden_)});
  result.h = out[1];
  if (out.size() > 2) result.c = out[2];
  return result;
}

RecurrentResult RecurrentBase::run(const Proxy& x, const Proxy& h, const Proxy& c) {
  RecurrentResult result;
  if (!x.is_present()) return result;
  if (x.rank() != 3) {
    x.tracer()->fail(
        error(Code::invalid_argument, "module \"{}\" ({}): x has rank {}, expected 3", path(), type_name(), x.rank()));
    return result;
  }
  result.output = options_.batch_first ? build::permute(x, {1, 0, 2}) : x;
  Proxies hs, cs;
  for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
    result = run_layer(layer, result.output, h, c);
    hs.push_back(result.h);
    if (result.c.is_present()) cs.push_back(result.c);
  }
  if (hs.size() > 1) result.h = build::cat(hs, 0);
  if (cs.size() > 1) result.c = build::cat(cs, 0);
  if (options_.batch_first) result.output = build::permute(result.output, {1, 0, 2});
  return result;
}

RecurrentResult RecurrentBase::operator()(const Proxy& x, const Proxy& h, const Proxy& c) {
  Tracer::Entered entered(x.tracer(), *this);
  return run(x, h, c);
}

LSTM::LSTM(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : RecurrentBase(std::move(slot), {"LSTM", Op::lstm, kLstmOrder}, input, hidden, std::move(options)) {}
GRU::GRU(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : RecurrentBase(std::move(slot), {"GRU", Op::gru, kGruOrder}, input, hidden, std::move(options)) {}
RNN::RNN(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : RecurrentBase(std::move(slot), {"RNN", Op::rnn, kRnnOrder}, input, hidden, std::move(options)) {}

// ---- cells

RecurrentCell::RecurrentCell(Slot slot, RecurrentBase::Form form, std::int64_t input, std::int64_t hidden,
                             RecurrentOptions options)
    : Layer(std::move(slot)),
      form_(std::move(form)),
      hidden_(hidden),
      options_(std::move(options)),
      weight_ih(*this, "weight_ih", {static_cast<std::int64_t>(form_.order.size()) * hidden, input}),
      weight_hh(*this, "weight_hh", {static_cast<std::int64_t>(form_.order.size()) * hidden, hidden}),
      bias_ih(*this, "bias_ih", {static_cast<std::int64_t>(form_.order.size()) * hidden}),
      bias_hh(*this, "bias_hh", {static_cast<std::int64_t>(form_.order.size()) * hidden}) {
  options_.bidirectional = false;
  if (options_.bias) return;
  bias_ih.remove();
  bias_hh.remove();
}

RecurrentResult RecurrentCell::run(const Proxy& x, const Proxy& h, const Proxy& c) {
  RecurrentResult result;
  if (!x.is_present()) return result;
  auto raised = [](const Proxy& p) {
    Shape shape = p.sizes();
    shape.insert(shape.begin(), Dim(1));
    return p.is_present() ? build::reshape(p, std::move(shape)) : p;
  };
  auto gates = [&](const Parameter& a, const Parameter* b) {
    return constant(x, stack_gates({{&a.tensor(), b == nullptr ? nullptr : &b->tensor()}}, form_.order), a.path());
  };
  std::vector<Proxy> inputs{raised(x),
                            gates(weight_ih, nullptr),
                            gates(weight_hh, nullptr),
                            options_.bias ? gates(bias_ih, &bias_hh) : Proxy(),
                            {},
                            raised(h)};
  if (form_.op == Op::lstm) inputs.push_back(raised(c));
  const Proxies out = x.tracer()->emit_all(form_.op, inputs, attributes_of(form_, hidden_, options_));
  auto lowered = [](const Proxy& p) { return p.is_present() ? build::reshape(p, {p.size(1), p.size(2)}) : p; };
  result.h = result.output = lowered(out[1]);
  if (out.size() > 2) result.c = lowered(out[2]);
  return result;
}

RecurrentResult RecurrentCell::operator()(const Proxy& x, const Proxy& h, const Proxy& c) {
  Tracer::Entered entered(x.tracer(), *this);
  return run(x, h, c);
}

LSTMCell::LSTMCell(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : RecurrentCell(std::move(slot), {"LSTMCell", Op::lstm, kLstmOrder}, input, hidden, std::move(options)) {}
GRUCell::GRUCell(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : RecurrentCell(std::move(slot), {"GRUCell", Op::gru, kGruOrder}, input, hidden, std::move(options)) {}
RNNCell::RNNCell(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options)
    : RecurrentCell(std::move(slot), {"RNNCell", Op::rnn, kRnnOrder}, input, hidden, std::move(options)) {}

// ---- attention

MultiheadAttention::MultiheadAttention(Slot slot, std::int64_t embed, std::int64_t heads, Bias bias)
    : Layer(std::move(slot)),
      embed_(embed),
      heads_(heads),
      in_proj_weight(*this, "in_proj_weight", {3 * embed, embed}),
      in_proj_bias(*this, "in_proj_bias", {3 * embed}),
      out_proj(at("out_proj"), embed, embed, bias) {
  if (bias == Bias::without) in_proj_bias.remove();
}

Proxy MultiheadAttention::run(const Proxy& query, const Proxy& key, const Proxy& value) {
  if (!query.is_present() || !key.is_present() || !value.is_present()) return {query.tracer(), nullptr};
  Tracer* tracer = query.tracer();
  if (heads_ <= 0 || embed_ % heads_ != 0) {
    tracer->fail(error(Code::invalid_argument, "module \"{}\": {} heads do not divide an embedding of {}", path(),
                       heads_, embed_));
    return {tracer, nullptr};
  }
  const std::int64_t width = embed_ / heads_;
  // The part-th E rows of the projection, as [B, heads, L, width].
  auto project = [&](const Proxy& x, std::int64_t part) {
    const Proxy w = build::slice(in_proj_weight(x), 0, part * embed_, (part + 1) * embed_);
    const Proxy all = in_proj_bias(x);
    const Proxy b = all.is_present() ? build::slice(all, 0, part * embed_, (part + 1) * embed_) : Proxy();
    const Proxy y = build::linear(x, w, b);
    return build::permute(build::reshape(y, {y.size(0), y.size(1), Dim(heads_), Dim(width)}), {0, 2, 1, 3});
  };
  const Proxy q =
      tracer->emit(Op::mul, {project(query, 0), tracer->scalar(1.0 / std::sqrt(static_cast<double>(width)), query)});
  const Proxy k = project(key, 1), v = project(value, 2);
  const Proxy weights = build::softmax(tracer->emit(Op::matmul, {q, build::transpose(k, 2, 3)}), -1);
  const Proxy y = build::permute(tracer->emit(Op::matmul, {weights, v}), {0, 2, 1, 3});
  return out_proj(build::reshape(y, {y.size(0), y.size(1), Dim(embed_)}));
}

Proxy MultiheadAttention::operator()(const Proxy& query, const Proxy& key, const Proxy& value) {
  Tracer::Entered entered(query.tracer(), *this);
  return run(query, key, value);
}

}  // namespace aoq::nn
