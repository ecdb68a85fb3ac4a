#include "passes/fx/qat.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/interpreter.h"
#include "passes/quantize/primitives.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

using namespace rewrite;

Result<QatForward> QatForward::make(Graph& graph, Ranges& ranges) {
  if (graph.stage != Stage::prepared) {
    return error(Code::invalid_argument, "qat: the graph is {}, expected prepared", stage_name(graph.stage));
  }
  QatForward forward(graph, ranges);
  for (const Node* n : graph.nodes()) {
    for (std::size_t i = 0; i < n->output_count(); ++i) {
      if (all_constant(n->output(i)->type().shape)) continue;
      return error(Code::unsupported, "qat: {} has the shape {}: expected numbers, trace with a fixed batch",
                   describe(*n), to_string(n->output(i)->type().shape));
    }
    if (!n->is(Op::batch_norm)) continue;
    for (std::size_t k : {3u, 4u}) {
      const Tensor* t = constant_tensor(n->input(k));
      if (t == nullptr) return error(Code::unsupported, "qat: {}: its statistics are no constants", describe(*n));
      forward.running_[n->input(k)] = *t;
    }
  }
  return forward;
}

const Tensor& QatForward::operand(const Value* v) const {
  if (const auto found = running_.find(v); found != running_.end()) return found->second;
  if (const auto found = values_.find(v); found != values_.end()) return found->second;
  const Tensor* t = constant_tensor(v);
  AOQ_CHECK(t != nullptr);
  return *t;
}

namespace {

Node* norm_behind(const Node& n) {
  Node* reader = is_one_of(n, {Op::conv, Op::linear}) ? only_user(n.output()) : nullptr;
  const bool is_one = reader != nullptr && reader->is(Op::batch_norm) && !n.origins.empty() &&
                      !reader->origins.empty() && reader->origins.front() == n.origins.front();
  return is_one ? reader : nullptr;
}

}  // namespace

Result<std::vector<Tensor>> QatForward::step(std::span<const Tensor> inputs) {
  values_.clear();
  const std::vector<Node*> nodes = graph_.input_nodes();
  if (inputs.size() != nodes.size()) {
    return error(Code::invalid_argument, "qat: {} inputs, expected {}", inputs.size(), nodes.size());
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    AOQ_ASSIGN(const std::vector<std::int64_t> shape, aoq::evaluate(nodes[i]->output()->type().shape, {}));
    if (inputs[i].dtype() != nodes[i]->output()->type().dtype || inputs[i].shape() != shape) {
      return error(Code::invalid_data, "qat: input {} is {}{}, expected {}", i, dtype_name(inputs[i].dtype()),
                   shape_to_string(inputs[i].shape()), to_string(nodes[i]->output()->type()));
    }
    values_[nodes[i]->output()] = inputs[i];
  }
  std::vector<Tensor> results;
  for (const Node* n : graph_.nodes()) {
    if (n->is(Op::output)) {
      for (const Value* v : n->inputs()) results.push_back(operand(v));
    }
    if (n->def().has_trait(kStructural)) continue;
    Result<std::vector<Tensor>> made = evaluate(*n);
    if (!made.ok()) return std::move(made).status().with_context(describe(*n));
    for (std::size_t i = 0; i < made->size(); ++i) values_[n->output(i)] = std::move((*made)[i]);
  }
  return results;
}

Result<std::vector<Tensor>> QatForward::evaluate(const Node& n) {
  std::vector<Tensor> one(1);
  if (n.is(Op::observe)) {
    // A weight's observer sees what its layer makes of the weight.
    const Node* reader = n.output()->uses().empty() ? nullptr : n.output()->uses()[0].user;
    if (reader != nullptr && norm_behind(*reader) != nullptr && constant_tensor(n.input(0)) != nullptr) {
      one[0] = operand(n.input(0));
      return one;
    }
    AOQ_ASSIGN(one[0], observe(n, operand(n.input(0))));
    return one;
  }
  if (const Node* norm = norm_behind(n)) {
    AOQ_ASSIGN(one[0], conv_batch_norm(n, *norm));
    return one;
  }
  if (n.is(Op::batch_norm)) {
    AOQ_ASSIGN(one[0], batch_norm(n, operand(n.input(0))));
    return one;
  }
  std::vector<Tensor> inputs;
  for (const Value* v : n.inputs()) inputs.push_back(v == nullptr ? Tensor() : operand(v));
  return evaluate_node(n, inputs);
}

Result<Observer*> QatForward::observer_of(const Node& observe) {
  std::unique_ptr<Observer>& slot = ranges_.observers[observe.attributes().string("observer")];
  if (slot == nullptr) {
    AOQ_ASSIGN(const ObserverSpec spec, parse_observer_spec(observe.attributes().string("spec")));
    AOQ_ASSIGN(slot, make_observer(spec));
  }
  return slot.get();
}

Result<Tensor> QatForward::observe(const Node& n, const Tensor& x) {
  AOQ_ASSIGN(Observer * observer, observer_of(n));
  const ObserverSpec& spec = observer->spec();
  if (spec.kind == "placeholder") return x;
  if (observes) AOQ_TRY(observer->observe(x.view()));
  if (!fake_quantizes) return x;
  const bool is_symmetric =
      spec.qscheme == QScheme::per_tensor_symmetric || spec.qscheme == QScheme::per_channel_symmetric;
  const QRangeRequest request{spec.dtype, spec.quant_min, spec.quant_max,
                              spec.reduce_range ? ReduceRange::yes : ReduceRange::no, true};
  AOQ_ASSIGN(const QRange range, observer_qrange(request));
  QParams q;
  q.dtype = spec.dtype;
  q.range = range;
  if (is_per_channel(spec.qscheme)) q.axis = 0;
  if (spec.kind == "fixed_qparams") {
    q.scale = {static_cast<float>(spec.scale)};
    q.zero_point = {spec.zero_point};
  }
  const ObserverState& state = observer->state();
  for (std::size_t i = 0; i < state.min.size() && spec.kind != "fixed_qparams"; ++i) {
    const TensorQParams chosen =
        choose_quantization_params(state.min[i], state.max[i], {.range = range, .preserve_sparsity = is_symmetric});
    q.scale.push_back(static_cast<float>(chosen.scale));
    q.zero_point.push_back(chosen.zero_point);
  }
  if (q.scale.empty()) return x;  // nothing seen yet
  return fake_quantize_tensor(x.view(), q);
}

namespace {

// Element i of a weight or bias of `channels` output channels belongs to channel i / (size / channels).
Result<Tensor> scaled(const Tensor& x, std::span<const float> factor) {
  AOQ_ASSIGN(Tensor y, Tensor::make(DType::f32, x.shape()));
  const std::span<const float> from = x.as<float>();
  const std::size_t each = std::max<std::size_t>(1, from.size() / std::max<std::size_t>(1, factor.size()));
  for (std::size_t i = 0; i < from.size(); ++i) y.mutable_as<float>()[i] = from[i] * factor[i / each];
  return y;
}

// [N, C, spatial...] visited channel by channel.
struct Channels {
  std::int64_t batch = 1, channels = 1, pixels = 1;
  explicit Channels(const std::vector<std::int64_t>& shape) {
    batch = shape.empty() ? 1 : shape[0];
    channels = shape.size() > 1 ? shape[1] : 1;
    for (std::size_t d = 2; d < shape.size(); ++d) pixels *= shape[d];
  }
  std::size_t index(std::int64_t n, std::int64_t c, std::int64_t p) const {
    return static_cast<std::size_t>((n * channels + c) * pixels + p);
  }
};

}  // namespace

Result<Tensor> QatForward::conv_batch_norm(const Node& n, const Node& norm) {
  const float epsilon = static_cast<float>(norm.attributes().real("epsilon"));
  const std::span<const float> gamma = operand(norm.input(1)).as<float>();
  const std::span<const float> variance = operand(norm.input(4)).as<float>();
  std::vector<float> factor(gamma.size());
  for (std::size_t i = 0; i < factor.size(); ++i) factor[i] = gamma[i] / std::sqrt(variance[i] + epsilon);

  const Node* observed = n.input(1)->def()->is(Op::observe) ? n.input(1)->def() : nullptr;
  AOQ_ASSIGN(Tensor weight, scaled(operand(observed != nullptr ? observed->input(0) : n.input(1)), factor));
  if (observed != nullptr) {
    AOQ_ASSIGN(weight, observe(*observed, weight));
  }
  std::vector<Tensor> inputs{operand(n.input(0)), weight};
  if (n.input(2) != nullptr) {
    AOQ_ASSIGN(Tensor zeros, Tensor::make(DType::f32, operand(n.input(2)).shape()));
    inputs.push_back(std::move(zeros));
  }
  AOQ_ASSIGN(std::vector<Tensor> y, evaluate_node(n, inputs));
  const Channels at(y[0].shape());
  const std::span<float> out = y[0].mutable_as<float>();
  for (std::int64_t b = 0; b < at.batch; ++b) {
    for (std::int64_t c = 0; c < at.channels; ++c) {
      const float bias = n.input(2) == nullptr ? 0.0f : operand(n.input(2)).as<float>()[static_cast<std::size_t>(c)];
      for (std::int64_t p = 0; p < at.pixels; ++p) {
        float& v = out[at.index(b, c, p)];
        v = v / factor[static_cast<std::size_t>(c)] + bias;
      }
    }
  }
  return std::move(y[0]);
}

Result<Tensor> QatForward::batch_norm(const Node& n, const Tensor& x) {
  AOQ_ASSIGN(Tensor y, Tensor::make(DType::f32, x.shape()));
  const Channels at(x.shape());
  const float epsilon = static_cast<float>(n.attributes().real("epsilon"));
  const std::span<const float> from = x.as<float>(), gamma = operand(n.input(1)).as<float>(),
                               beta = operand(n.input(2)).as<float>();
  const std::span<float> mean_out = running_[n.input(3)].mutable_as<float>();
  const std::span<float> variance_out = running_[n.input(4)].mutable_as<float>();
  const double count = static_cast<double>(at.batch * at.pixels);
  for (std::int64_t c = 0; c < at.channels; ++c) {
    const auto k = static_cast<std::size_t>(c);
    double sum = 0, squares = 0;
    auto each = [&](auto&& act) {
      for (std::int64_t b = 0; b < at.batch; ++b) {
        for (std::int64_t p = 0; p < at.pixels; ++p) act(at.index(b, c, p));
      }
    };
    each([&](std::size_t i) { sum += static_cast<double>(from[i]); });
    const double mean = sum / count;
    each([&](std::size_t i) {
      squares += (static_cast<double>(from[i]) - mean) * (static_cast<double>(from[i]) - mean);
    });
    const double variance = squares / count;
    const auto factor =
        static_cast<float>(static_cast<double>(gamma[k]) / std::sqrt(variance + static_cast<double>(epsilon)));
    each([&](std::size_t i) { y.mutable_as<float>()[i] = (from[i] - static_cast<float>(mean)) * factor + beta[k]; });
    const double unbiased = count > 1 ? squares / (count - 1) : variance;
    mean_out[k] = static_cast<float>((1 - momentum) * static_cast<double>(mean_out[k]) + momentum * mean);
    variance_out[k] = static_cast<float>((1 - momentum) * static_cast<double>(variance_out[k]) + momentum * unbiased);
  }
  return y;
}

Status QatForward::finish() {
  for (const auto& [value, tensor] : running_) {
    Node* old = value->def();
    Value* updated = graph_.constant(tensor, old, old->label());
    updated->def()->scope = old->scope;
    graph_.replace_uses(const_cast<Value*>(value), updated);
    graph_.erase(old);
  }
  running_.clear();
  // Folding sees the weights themselves; their observers go back on top of what it made.
  std::vector<std::pair<Node*, Node*>> observers;  // layer, observer
  for (Node* n : graph_.nodes()) {
    if (!is_one_of(*n, {Op::conv, Op::linear}) || !n->input(1)->def()->is(Op::observe)) continue;
    observers.emplace_back(n, n->input(1)->def());
    graph_.set_input(n, 1, n->input(1)->def()->input(0));
  }
  const std::vector<std::string> fold{"fold-batch-norm"};
  PassContext context;
  AOQ_TRY(run_passes(graph_, fold, context).status());
  for (const auto& [n, o] : observers) {
    graph_.move_before(o, n);
    graph_.set_input(o, 0, n->input(1));
    graph_.set_input(n, 1, o->output());
    AOQ_TRY(graph_.infer(o));
  }
  values_.clear();
  return {};
}

}  // namespace aoq::fx
