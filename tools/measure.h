// Measuring graphs that take turns, step by step or as a whole: whatever slows the machine down meets all of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/session.h"
#include "tools/console.h"

namespace aoq::tools {

double quantile(std::vector<double> values, double q);
double median(std::vector<double> values);
// How far the values lie from their median, relative to it: 1.48 times the median distance, a standard deviation where
// they are normal. 0 for fewer than two.
double spread(const std::vector<double>& values);
// Of a[i] / b[i], up to the shorter one.
std::vector<double> ratios(const std::vector<double>& a, const std::vector<double>& b);

// The same numbers every time: floats in [-1, 1], ones for wider integers (valid as index, length and mask), any code.
Result<std::vector<Tensor>> made_up_inputs(const Model& model, const Shapes& shapes);

// A lowered graph that is ready to run on one batch. Used by one thread.
class TimedGraph {
 public:
  // `graph` is cloned. The inputs' shapes are those of every run.
  static Result<std::unique_ptr<TimedGraph>> make(const Graph& graph, const ModelOptions& options,
                                                  std::span<const Tensor> inputs);

  // Steps of the plan and their nodes (of the clone), in order.
  const std::vector<StepInfo>& steps() const { return steps_; }
  const std::vector<const Node*>& nodes() const { return nodes_; }
  const Graph& graph() const { return session_.model().graph(); }

  // Microseconds of each run so far.
  const std::vector<double>& step_times(std::size_t step) const { return step_times_[step]; }
  const std::vector<double>& whole_times() const { return whole_times_; }

  Status run_steps(std::span<const TensorView> inputs);
  Status run_whole(std::span<const TensorView> inputs);

 private:
  explicit TimedGraph(Session session) : session_(std::move(session)) {}
  Status find_nodes();

  Session session_;
  std::vector<StepInfo> steps_;
  std::vector<const Node*> nodes_;
  std::vector<std::vector<double>> step_times_;
  std::vector<double> whole_times_;
};

struct Turns {
  std::span<TimedGraph* const> graphs;
  std::span<const Tensor> inputs;
  bool by_step = false;
  double seconds = 1;     // how long, but 7 rounds at least
  const char* what = "";  // for the progress bar
};
// One run of each per round; who is first changes from round to round. The result is the number of rounds.
Result<std::size_t> take_turns(const Turns& turns, const Console& console);

}  // namespace aoq::tools
