// Kernel rows against each other: a graph as the backend would run it, and with its nodes' other rows.
#pragma once

#include "tools/measure.h"
#include "tools/step_costs.h"
#include "tools/tuning_file.h"

namespace aoq::tools {

class RowRace {
 public:
  // The k-th variant asks every node for its op's k-th row; those that change nothing are left out.
  static Result<RowRace> make(const Graph& graph, const ModelOptions& options, std::span<const Tensor> inputs);

  // To be run step by step before judge(). The first is as the backend chooses.
  const std::vector<std::unique_ptr<TimedGraph>>& graphs() const { return graphs_; }

  // The time of each step with its fastest row. Rows that beat the first by more than chance are added to `tuning`; of
  // nodes that share op and label none, as they share the choice.
  std::vector<MeasuredStep> judge(Tuning& tuning) const;

 private:
  bool differs(const TimedGraph& other) const;
  const TimedGraph* best_of(std::size_t step) const;

  std::vector<std::unique_ptr<TimedGraph>> graphs_;
};

}  // namespace aoq::tools
