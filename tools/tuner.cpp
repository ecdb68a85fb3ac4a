#include "tools/tuner.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "ir/bind.h"
#include "ir/checked.h"
#include "runtime/kernel_choice.h"
#include "tools/row_race.h"
#include "tools/step_costs.h"

namespace aoq::tools {

namespace {

using Rows = std::map<std::string, std::string>;

// Of the ratios of wholes: what is never claimed to be less, is good enough, and is never let pass for more.
constexpr double kLeastNoise = 0.01, kFewNoise = 0.02, kMostNoise = 0.1;

Rows rows_of(const Tuning& tuning) {
  Rows rows;
  for (const Tuning::Row& r : tuning.rows) rows[fmt::format("{}{}.{}", kKernelChoicePrefix, r.op, r.name)] = r.row;
  return rows;
}

Result<std::int64_t> elements_of(const Value* v, const SymbolValues& symbols) {
  AOQ_ASSIGN(const std::vector<std::int64_t> shape, evaluate(v->type().shape, symbols));
  const std::optional<std::int64_t> count = checked::element_count(shape);
  if (!count) return error(Code::resource_limit, "{} is too large", shape_to_string(shape));
  return *count;
}

struct Entrant {
  Tuning::Chosen kind = Tuning::Chosen::mixed;
  bool has_rows = false;
  std::unique_ptr<TimedGraph> graph;
};

class Tuner {
 public:
  Tuner(const TunedModel& model, const Console& console) : model_(model), console_(console) {}

  Result<Tuning> run() {
    AOQ_ASSIGN(Compiled in_float, model_.compile({.in_float = true}));
    AOQ_ASSIGN(Compiled in_int8, model_.compile({.place = [this](Graph& traced, Ranges&) { return look(traced); }}));
    AOQ_TRY(measure_steps(in_float.graph, in_int8.graph));
    decide();
    AOQ_TRY(check_whole(in_float.graph, in_int8.graph));
    return std::move(tuning_);
  }

 private:
  Status look(const Graph& traced) {
    // A clone, whose nodes live as long as this.
    traced_ = traced.clone();
    AOQ_ASSIGN(placed_, placement_model(traced_, model_.recipe));
    return {};
  }

  Status measure_steps(const Graph& in_float, const Graph& in_int8) {
    AOQ_ASSIGN(const RowRace floats, RowRace::make(in_float, model_.options, model_.inputs));
    AOQ_ASSIGN(const RowRace codes, RowRace::make(in_int8, model_.options, model_.inputs));
    std::vector<TimedGraph*> all;
    for (const RowRace* race : {&floats, &codes}) {
      for (const auto& g : race->graphs()) all.push_back(g.get());
    }
    AOQ_TRY(take_turns({all, model_.inputs, true, model_.seconds * 0.55, "measuring steps"}, console_).status());
    AOQ_ASSIGN(const MeasuredConversions conversions,
               measure_conversions(count_elements(), model_.options, model_.seconds / 20, console_));
    const std::vector<MeasuredStep> in_float_steps = floats.judge(tuning_);
    const std::size_t of_float = tuning_.rows.size();
    const std::vector<MeasuredStep> in_int8_steps = codes.judge(tuning_);
    drop_repeated_rows(of_float);
    fill_costs(in_float_steps, in_int8_steps, conversions, placed_);
    name_ops(*floats.graphs()[0], *codes.graphs()[0]);
    return {};
  }

  // What runs in float in both graphs was judged twice; the first judgement stays.
  void drop_repeated_rows(std::size_t of_float) {
    std::set<std::string> seen;
    for (std::size_t i = 0; i < of_float; ++i) seen.insert(tuning_.rows[i].op + "." + tuning_.rows[i].name);
    std::vector<Tuning::Row> kept(tuning_.rows.begin(), tuning_.rows.begin() + static_cast<std::ptrdiff_t>(of_float));
    for (std::size_t i = of_float; i < tuning_.rows.size(); ++i) {
      if (!seen.contains(tuning_.rows[i].op + "." + tuning_.rows[i].name)) kept.push_back(tuning_.rows[i]);
    }
    tuning_.rows = std::move(kept);
  }

  std::set<std::int64_t> count_elements() {
    std::set<std::int64_t> sizes;
    std::vector<InputShape> shapes;
    for (const Tensor& t : model_.inputs) shapes.push_back({t.dtype(), t.shape()});
    const Result<SymbolValues> symbols = bind_symbols(traced_, shapes);
    for (PlacedValue& v : placed_.values) {
      const Result<std::int64_t> count = symbols.ok() ? elements_of(v.value, *symbols) : symbols.status();
      if (!count.ok() || *count <= 0) continue;
      v.elements = *count;
      sizes.insert(*count);
    }
    return sizes;
  }

  // The entries of the file, with the noise and the rows of their main steps.
  void name_ops(const TimedGraph& floats, const TimedGraph& codes) {
    for (std::size_t i = 0; i < placed_.ops.size(); ++i) {
      const Node& n = *placed_.ops[i];
      Tuning::Op& op = tuning_.ops.emplace_back();
      op.name = n.label();
      op.op = n.def().name;
      op.key = shape_key(n);
      op.float_us = placed_.problem.ops[i].float_cost;
      op.int8_us = placed_.problem.ops[i].int8_cost;
      op.noise = std::max(describe_step(floats, op.name, op.float_row), describe_step(codes, op.name, op.int8_row));
    }
  }

  // The longest step of the label: its spread and its row.
  double describe_step(const TimedGraph& graph, const std::string& label, std::string& row) const {
    double longest = -1, noise = 0;
    for (std::size_t s = 0; s < graph.steps().size(); ++s) {
      const StepInfo& info = graph.steps()[s];
      if (info.label != label || is_conversion(info.op) || median(graph.step_times(s)) <= longest) continue;
      longest = median(graph.step_times(s));
      noise = spread(graph.step_times(s));
      row = info.row;
      for (const Tuning::Row& r : tuning_.rows) {
        if (r.name == label && r.op == info.op) row = r.row;
      }
    }
    return noise;
  }

  void decide() {
    constexpr double kLeastShare = 0.02, kLeastMicroseconds = 0.5;
    placement_ = without_small_savings(placed_.problem, solve(placed_.problem), kLeastShare, kLeastMicroseconds);
    write_placement();
  }

  void write_placement() {
    tuning_.regions.clear();
    for (std::size_t i = 0; i < tuning_.ops.size(); ++i) {
      tuning_.ops[i].runs_in_int8 = placement_[i];
      tuning_.ops[i].region.reset();
    }
    for (const FloatRegion& region : float_regions(placed_.problem, placement_)) {
      for (std::size_t op : region.ops) tuning_.ops[op].region = tuning_.regions.size();
      tuning_.regions.push_back({region.float_cost, region.int8_cost});
    }
  }

  // ---- the whole

  Status check_whole(const Graph& in_float, const Graph& in_int8) {
    const bool is_mixed = std::find(placement_.begin(), placement_.end(), false) != placement_.end() &&
                          std::find(placement_.begin(), placement_.end(), true) != placement_.end();
    std::vector<Entrant> entrants;
    if (is_mixed) {
      AOQ_ASSIGN(Compiled mixed, model_.compile({.place = [this](Graph& traced, Ranges&) {
        std::vector<std::string> ignored;
        return apply_tuning(tuning_, traced, ignored);
      }}));
      AOQ_TRY(enter(entrants, mixed.graph, Tuning::Chosen::mixed));
    }
    if (!placement_.empty()) AOQ_TRY(enter(entrants, in_int8, Tuning::Chosen::int8));
    AOQ_TRY(enter(entrants, in_float, Tuning::Chosen::in_float));
    std::vector<TimedGraph*> all;
    for (const Entrant& e : entrants) all.push_back(e.graph.get());
    // On a busy machine once more, and again.
    for (int turn = 0; turn < 3 && (turn == 0 || noise_of(entrants) > kFewNoise); ++turn) {
      AOQ_TRY(take_turns({all, model_.inputs, false, model_.seconds * 0.4, "measuring wholes"}, console_).status());
    }
    choose(entrants);
    return {};
  }

  // How far the medians of the ratios to plain float may be off: two standard errors of the worst.
  static double noise_of(const std::vector<Entrant>& entrants) {
    double noise = 0;
    for (const Entrant& e : entrants) {
      const std::vector<double> ratio = ratios(e.graph->whole_times(), entrants.back().graph->whole_times());
      noise = std::max(noise, spread(ratio) / std::sqrt(static_cast<double>(std::max<std::size_t>(ratio.size(), 1))));
    }
    return 2 * noise;
  }

  // With the chosen rows, where they change anything, and without.
  Status enter(std::vector<Entrant>& entrants, const Graph& graph, Tuning::Chosen kind) {
    AOQ_ASSIGN(std::unique_ptr<TimedGraph> plain, TimedGraph::make(graph, model_.options, model_.inputs));
    Graph chosen = graph.clone();
    const Rows rows = rows_of(tuning_);
    bool differs = false;
    for (const Node* n : graph.nodes()) {
      const auto row = rows.find(kernel_choice_key(*n));
      if (row == rows.end()) continue;
      chosen.metadata.insert(*row);
      differs = true;
    }
    if (differs) {
      AOQ_ASSIGN(std::unique_ptr<TimedGraph> timed, TimedGraph::make(chosen, model_.options, model_.inputs));
      entrants.push_back({kind, true, std::move(timed)});
    }
    entrants.push_back({kind, false, std::move(plain)});
    return {};
  }

  // Entrants are in the order in which they are preferred; the last is plain float.
  void choose(const std::vector<Entrant>& entrants) {
    const std::vector<double>& base = entrants.back().graph->whole_times();
    std::vector<double> relative;
    for (const Entrant& e : entrants) relative.push_back(median(ratios(e.graph->whole_times(), base)));
    tuning_.noise = std::clamp(noise_of(entrants), kLeastNoise, kMostNoise);
    const double best = *std::min_element(relative.begin(), relative.end());
    std::size_t chosen = 0;
    while (relative[chosen] > best * (1 + tuning_.noise)) ++chosen;
    record(entrants, chosen);
  }

  void record(const std::vector<Entrant>& entrants, std::size_t chosen) {
    Tuning::Whole whole;
    whole.chosen = entrants[chosen].kind;
    whole.chosen_us = median(entrants[chosen].graph->whole_times());
    whole.float_us = median(entrants.back().graph->whole_times());
    whole.int8_us = whole.float_us;
    for (const Entrant& e : entrants) {
      if (e.kind == Tuning::Chosen::int8) whole.int8_us = median(e.graph->whole_times());
    }
    tuning_.whole = whole;
    if (!entrants[chosen].has_rows) tuning_.rows.clear();
    if (whole.chosen == Tuning::Chosen::mixed) return;
    placement_.assign(placement_.size(), whole.chosen == Tuning::Chosen::int8);
    write_placement();
    // The whole decided, not the regions.
    tuning_.regions.clear();
    for (Tuning::Op& op : tuning_.ops) op.region.reset();
  }

  const TunedModel& model_;
  const Console& console_;
  Graph traced_;
  PlacementModel placed_;
  Placement placement_;
  Tuning tuning_;
};

}  // namespace

Result<Tuning> tune(const TunedModel& model, const Console& console) {
  return Tuner(model, console).run();
}

}  // namespace aoq::tools
