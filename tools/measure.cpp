#include "tools/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

namespace aoq::tools {

namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

Result<Tensor> made_up(DType dtype, const std::vector<std::int64_t>& shape) {
  AOQ_ASSIGN(Tensor t, Tensor::make(dtype, shape));
  std::mt19937 random(1);
  std::span<std::byte> bytes = t.mutable_bytes();
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    if (is_float(t.dtype())) {
      store_from_double(t.dtype(), bytes.data(), i, static_cast<double>(random()) / 2147483648.0 - 1.0);
    } else if (dtype_info(t.dtype()).bits <= 8 && is_integer(t.dtype())) {
      store_integer(t.dtype(), bytes.data(), i, static_cast<std::int64_t>(random() & 0xff));
    } else {
      store_integer(t.dtype(), bytes.data(), i, 1);
    }
  }
  return t;
}

Shapes shapes_of(std::span<const Tensor> inputs) {
  Shapes shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  return shapes;
}

}  // namespace

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  double position = q * static_cast<double>(values.size() - 1);
  auto below = static_cast<std::size_t>(position);
  std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (position - static_cast<double>(below));
}

double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

double spread(const std::vector<double>& values) {
  const double middle = median(values);
  if (values.size() < 2 || middle <= 0) return 0;
  std::vector<double> distances;
  for (double v : values) distances.push_back(std::fabs(v - middle));
  return 1.4826 * median(std::move(distances)) / middle;
}

std::vector<double> ratios(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> out;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (b[i] > 0) out.push_back(a[i] / b[i]);
  }
  return out;
}

Result<std::vector<Tensor>> made_up_inputs(const Model& model, const Shapes& shapes) {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    AOQ_ASSIGN(Tensor t, made_up(model.inputs()[i].type.dtype, shapes[i]));
    tensors.push_back(std::move(t));
  }
  return tensors;
}

Result<std::unique_ptr<TimedGraph>> TimedGraph::make(const Graph& graph, const ModelOptions& options,
                                                     std::span<const Tensor> inputs) {
  AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_graph(graph.clone(), options));
  AOQ_ASSIGN(Session session, Session::create(std::move(model)));
  std::unique_ptr<TimedGraph> timed(new TimedGraph(std::move(session)));
  AOQ_ASSIGN(PlanInfo plan, timed->session_.describe(shapes_of(inputs)));
  timed->steps_ = std::move(plan.steps);
  AOQ_TRY(timed->find_nodes());
  timed->step_times_.resize(timed->steps_.size());
  return timed;
}

// Steps are in the order of the nodes; views and constants have none.
Status TimedGraph::find_nodes() {
  for (const Node* n : graph().nodes()) {
    if (nodes_.size() == steps_.size()) break;
    const StepInfo& step = steps_[nodes_.size()];
    if (n->def().has_trait(kStructural) || step.op != n->def().name || step.label != n->label()) continue;
    nodes_.push_back(n);
  }
  AOQ_CHECK(nodes_.size() == steps_.size());
  return {};
}

Status TimedGraph::run_steps(std::span<const TensorView> inputs) {
  Tap tap;
  for (const Node* n : graph().input_nodes()) tap.values.push_back(n->output());
  const std::size_t ports = tap.values.size();
  for (const Node* n : nodes_) tap.values.push_back(n->output());
  std::size_t seen = 0;
  Clock::time_point last = Clock::now();
  tap.callback = [&](const Value&, TensorView) {
    const Clock::time_point now = Clock::now();
    if (seen >= ports) step_times_[seen - ports].push_back(microseconds(now - last));
    ++seen;
    last = Clock::now();
    return Status();
  };
  return session_.run(inputs, tap).status();
}

Status TimedGraph::run_whole(std::span<const TensorView> inputs) {
  const Clock::time_point start = Clock::now();
  AOQ_TRY(session_.run(inputs).status());
  whole_times_.push_back(microseconds(Clock::now() - start));
  return {};
}

Result<std::size_t> take_turns(const Turns& turns, const Console& console) {
  constexpr std::size_t kMinRounds = 7;
  std::vector<TensorView> inputs;
  for (const Tensor& t : turns.inputs) inputs.push_back(t.view());
  const auto run = [&](TimedGraph& graph) { return turns.by_step ? graph.run_steps(inputs) : graph.run_whole(inputs); };
  Progress progress(console, turns.what, static_cast<std::int64_t>(turns.seconds * 1000));
  const Clock::time_point start = Clock::now();
  const auto passed = [&] { return static_cast<std::int64_t>(microseconds(Clock::now() - start) / 1000); };
  std::int64_t shown = 0;
  for (std::size_t round = 0;; ++round) {
    const std::int64_t now = passed();
    if (round >= kMinRounds && static_cast<double>(now) >= turns.seconds * 1000) return round;
    progress.advance(now - shown);
    shown = now;
    for (std::size_t i = 0; i < turns.graphs.size(); ++i) {
      AOQ_TRY(run(*turns.graphs[(round + i) % turns.graphs.size()]));
    }
  }
}

}  // namespace aoq::tools
