// calibrate: runs the prepared graph over the data and lets every observer see its values.
//
// Memory does not grow with the number of samples: an observer keeps its statistics only, a weighted op those of its
// input channels.
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "ir/error_id.h"
#include "ir/executor.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

// What has to be told about one value.
struct Watch {
  struct Watcher {
    Observer* observer = nullptr;
    std::string name;
    std::int64_t leading = 0;  // axes at the front whose every index is an observation
  };
  std::vector<Watcher> observers;
  std::vector<std::pair<ChannelStatistics*, std::size_t>> channels;  // with the channel axis
};

Status check_finite(std::span<const float> values, const std::string& name) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return error(
          ErrorId::not_finite,
          "the calibration data makes \"{}\" {} at element {}: expected finite numbers; look at the sample before "
          "and at the model's input range",
          name, values[i], i);
    }
  }
  return {};
}

void add_channels(const TensorView& v, std::size_t axis, ChannelStatistics* statistics) {
  std::int64_t outer = 1, inner = 1;
  auto channels = static_cast<std::size_t>(v.shape[axis]);
  for (std::size_t d = 0; d < axis; ++d) outer *= v.shape[d];
  for (std::size_t d = axis + 1; d < v.shape.size(); ++d) inner *= v.shape[d];
  if (outer * inner == 0) return;
  statistics->sum.resize(channels);
  statistics->min.resize(channels, std::numeric_limits<float>::max());
  statistics->max.resize(channels, std::numeric_limits<float>::lowest());
  const auto* x = reinterpret_cast<const float*>(v.data);
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = 0;
      float lo = statistics->min[c], hi = statistics->max[c];
      for (std::int64_t i = 0; i < inner; ++i, ++x) {
        sum += static_cast<double>(*x);
        lo = std::min(lo, *x);
        hi = std::max(hi, *x);
      }
      statistics->sum[c] += sum;
      statistics->min[c] = lo;
      statistics->max[c] = hi;
    }
  }
  statistics->count += outer * inner;
}

class Calibration {
 public:
  Calibration(const Graph& graph, Ranges& ranges) : graph_(graph), ranges_(ranges) {}

  Status watch() {
    for (const Node* n : graph_.nodes()) {
      if (n->is(Op::observe)) AOQ_TRY(watch_observer(*n));
      bool weighted = is_one_of(*n, {Op::conv, Op::linear}) && n->requested == "int8" && n->reason.empty();
      if (!weighted) continue;
      watch_channels(*n, 0, channels_of_input(*n));
      if (n->input(3) != nullptr) watch_channels(*n, 3, channels_of_residual(*n));
    }
    return {};
  }

  Status run(Executor& executor, CalibrationData& data) {
    Tap tap;
    for (const auto& [value, watched] : watches_) tap.values.push_back(value);
    tap.callback = [this](const Value& v, TensorView view) { return see(v, view); };
    AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(graph_));
    std::vector<Tensor> batch;
    while (true) {
      AOQ_ASSIGN(bool more, data.next(batch));
      if (!more) break;
      AOQ_TRY(check_inputs(batch));
      AOQ_TRY(executable->run(batch, tap).status());
      ranges_.samples += batch.empty() || batch[0].shape().empty() ? 1 : batch[0].shape()[0];
    }
    if (ranges_.samples == 0) return error(Code::invalid_data, "the calibration data has no samples");
    return {};
  }

 private:
  Status watch_observer(const Node& n) {
    const std::string& name = n.attributes().string("observer");
    AOQ_ASSIGN(const ObserverSpec spec, parse_observer_spec(n.attributes().string("spec")));
    if (is_dynamic(spec)) return {};
    std::unique_ptr<Observer>& slot = ranges_.observers[name];
    if (slot == nullptr) {
      AOQ_ASSIGN(slot, make_observer(spec));
    }
    watches_[n.input(0)].observers.push_back({slot.get(), name, n.attributes().integer("leading")});
    return {};
  }

  void watch_channels(const Node& n, std::size_t operand, const std::string& name) {
    const Value* x = n.input(operand);
    if (x->def()->is(Op::observe)) x = x->def()->input(0);
    std::size_t rank = x->type().shape.size();
    std::size_t axis = n.is(Op::linear) || n.attributes().boolean("channels_last") ? rank - 1 : 1;
    watches_[x].channels.emplace_back(&ranges_.channels[name], axis);
  }

  Status check_inputs(const std::vector<Tensor>& batch) const {
    std::vector<Node*> inputs = graph_.input_nodes();
    for (std::size_t i = 0; i < batch.size() && i < inputs.size(); ++i) {
      if (batch[i].dtype() == DType::f32)
        AOQ_TRY(check_finite(batch[i].as<float>(), inputs[i]->attributes().string("name")));
    }
    return {};
  }

  static Status observe(const Watch::Watcher& w, const TensorView& view) {
    const auto* x = reinterpret_cast<const float*>(view.data);
    AOQ_TRY(check_finite({x, static_cast<std::size_t>(view.element_count())}, w.name));
    const auto leading = static_cast<std::size_t>(w.leading);
    TensorView part = view;
    part.shape = view.shape.subspan(leading);
    std::int64_t parts = 1;
    for (std::size_t i = 0; i < leading; ++i) parts *= view.shape[i];
    for (std::int64_t i = 0; i < parts; ++i) {
      part.data = reinterpret_cast<const std::byte*>(x + i * part.element_count());
      AOQ_TRY(w.observer->observe(part));
    }
    return {};
  }

  Status see(const Value& v, const TensorView& view) {
    auto it = watches_.find(&v);
    if (it == watches_.end() || view.dtype != DType::f32) return {};
    const Watch& w = it->second;
    for (const Watch::Watcher& watcher : w.observers) AOQ_TRY(observe(watcher, view));
    for (const auto& [statistics, axis] : w.channels) add_channels(view, axis, statistics);
    return {};
  }

  const Graph& graph_;
  Ranges& ranges_;
  std::unordered_map<const Value*, Watch> watches_;
};

Result<bool> run(Graph& graph, PassContext& context) {
  if (context.executor == nullptr || context.data == nullptr || context.ranges == nullptr) {
    return error(Code::invalid_argument, "needs an executor, data and a place for the ranges");
  }
  if (graph.stage != Stage::prepared) {
    return error(Code::invalid_argument, "the graph is {}, expected prepared", stage_name(graph.stage));
  }
  Calibration calibration(graph, *context.ranges);
  AOQ_TRY(calibration.watch());
  AOQ_TRY(calibration.run(*context.executor, *context.data));
  return false;
}

}  // namespace

extern const PassDef kPass_calibrate;
const PassDef kPass_calibrate = {.name = "calibrate",
                                 .summary = "Runs the prepared graph over data and feeds its observers.",
                                 .kind = PassKind::stage,
                                 .run = run};

}  // namespace aoq
