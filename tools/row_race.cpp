#include "tools/row_race.h"

#include <cmath>

#include "runtime/kernel_choice.h"
#include "tools/machine.h"

namespace aoq::tools {

namespace {

constexpr double kLeastRowGain = 0.04, kLeastMicroseconds = 0.5;

// The graph with the k-th row asked for at every node that has one.
Graph with_rows(const Graph& graph, std::size_t k, bool* any) {
  Graph out = graph.clone();
  for (const Node* n : graph.nodes()) {
    if (n->def().has_trait(kStructural)) continue;
    const std::vector<std::string> rows = kernel_rows_of(n->op());
    if (k >= rows.size()) continue;
    out.metadata[kernel_choice_key(*n)] = rows[k];
    *any = true;
  }
  return out;
}

}  // namespace

Result<RowRace> RowRace::make(const Graph& graph, const ModelOptions& options, std::span<const Tensor> inputs) {
  RowRace race;
  AOQ_ASSIGN(std::unique_ptr<TimedGraph> first, TimedGraph::make(graph, options, inputs));
  race.graphs_.push_back(std::move(first));
  for (std::size_t k = 0;; ++k) {
    bool any = false;
    const Graph variant = with_rows(graph, k, &any);
    if (!any) return race;
    AOQ_ASSIGN(std::unique_ptr<TimedGraph> timed, TimedGraph::make(variant, options, inputs));
    if (race.differs(*timed)) race.graphs_.push_back(std::move(timed));
  }
}

bool RowRace::differs(const TimedGraph& other) const {
  const std::vector<StepInfo>& mine = graphs_[0]->steps();
  for (std::size_t s = 0; s < mine.size(); ++s) {
    if (mine[s].row != other.steps()[s].row) return true;
  }
  return false;
}

std::vector<MeasuredStep> RowRace::judge(Tuning& tuning) const {
  std::vector<MeasuredStep> steps;
  std::map<std::string, int> labels;
  for (const StepInfo& s : graphs_[0]->steps()) ++labels[s.op + "." + s.label];
  for (std::size_t s = 0; s < graphs_[0]->steps().size(); ++s) {
    const StepInfo& info = graphs_[0]->steps()[s];
    const double before = median(graphs_[0]->step_times(s));
    const TimedGraph* best = labels[info.op + "." + info.label] == 1 ? best_of(s) : nullptr;
    const double us = best == nullptr ? before : median(best->step_times(s));
    steps.push_back({info.label, info.op, us});
    if (best != nullptr) tuning.rows.push_back({info.label, info.op, best->steps()[s].row, us, info.row, before});
  }
  return steps;
}

const TimedGraph* RowRace::best_of(std::size_t step) const {
  const TimedGraph* best = nullptr;
  double least = 1;
  const std::vector<double>& before = graphs_[0]->step_times(step);
  for (std::size_t k = 1; k < graphs_.size(); ++k) {
    if (graphs_[k]->steps()[step].row == graphs_[0]->steps()[step].row) continue;
    const std::vector<double> ratio = ratios(graphs_[k]->step_times(step), before);
    const double middle = median(ratio);
    const double error = spread(ratio) / std::sqrt(static_cast<double>(std::max<std::size_t>(ratio.size(), 1)));
    const bool gains = middle < 1 - kLeastRowGain - 2 * error && (1 - middle) * median(before) > kLeastMicroseconds;
    if (!gains || middle >= least) continue;
    least = middle;
    best = graphs_[k].get();
  }
  return best;
}

}  // namespace aoq::tools
