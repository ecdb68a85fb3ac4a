#include "tools/tuner.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "ir/bind.h"
#include "passes/quantize/weights.h"
#include "runtime/kernel_choice.h"

namespace aoq::tools {

namespace {

using Rows = std::map<std::string, std::string>;

// A row is only taken when it is faster by more than chance.
constexpr double kLeastRowGain = 0.04, kLeastMicroseconds = 0.5;
// Of the ratios of wholes: what is never claimed to be less, is good enough, and is never let pass for more.
constexpr double kLeastNoise = 0.01, kFewNoise = 0.02, kMostNoise = 0.1;

// ---- kernel rows

// What a row would change: the graph with every node's k-th row asked for.
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

// A graph and its variants, which differ in the rows of their steps.
struct RowRace {
  std::vector<std::unique_ptr<TimedGraph>> graphs;  // the first is as the backend chooses

  static Result<RowRace> make(const Graph& graph, const TunedModel& model) {
    RowRace race;
    AOQ_ASSIGN(std::unique_ptr<TimedGraph> first, TimedGraph::make(graph, model.options, model.inputs));
    race.graphs.push_back(std::move(first));
    for (std::size_t k = 0;; ++k) {
      bool any = false;
      const Graph variant = with_rows(graph, k, &any);
      if (!any) return race;
      AOQ_ASSIGN(std::unique_ptr<TimedGraph> timed, TimedGraph::make(variant, model.options, model.inputs));
      if (race.differs(*timed)) race.graphs.push_back(std::move(timed));
    }
  }

  bool differs(const TimedGraph& other) const {
    const std::vector<StepInfo>& mine = graphs[0]->steps();
    for (std::size_t s = 0; s < mine.size(); ++s) {
      if (mine[s].row != other.steps()[s].row) return true;
    }
    return false;
  }

  // The fastest row of each step, where it beats the first by more than chance; its step's time.
  std::vector<MeasuredStep> judge(Tuning& tuning) const {
    std::vector<MeasuredStep> steps;
    std::map<std::string, int> labels;
    for (const StepInfo& s : graphs[0]->steps()) ++labels[s.op + "." + s.label];
    for (std::size_t s = 0; s < graphs[0]->steps().size(); ++s) {
      const StepInfo& info = graphs[0]->steps()[s];
      const double before = median(graphs[0]->step_times(s));
      const TimedGraph* best = labels[info.op + "." + info.label] == 1 ? best_of(s) : nullptr;
      const double us = best == nullptr ? before : median(best->step_times(s));
      steps.push_back({info.label, info.op, us});
      if (best != nullptr) tuning.rows.push_back({info.label, info.op, best->steps()[s].row, us, info.row, before});
    }
    return steps;
  }

 private:
  const TimedGraph* best_of(std::size_t step) const {
    const TimedGraph* best = nullptr;
    double least = 1;
    const std::vector<double>& before = graphs[0]->step_times(step);
    for (std::size_t k = 1; k < graphs.size(); ++k) {
      if (graphs[k]->steps()[step].row == graphs[0]->steps()[step].row) continue;
      const std::vector<double> ratio = ratios(graphs[k]->step_times(step), before);
      const double middle = median(ratio);
      const double error = spread(ratio) / std::sqrt(static_cast<double>(std::max<std::size_t>(ratio.size(), 1)));
      const bool gains = middle < 1 - kLeastRowGain - 2 * error && (1 - middle) * median(before) > kLeastMicroseconds;
      if (!gains || middle >= least) continue;
      least = middle;
      best = graphs[k].get();
    }
    return best;
  }
};

Rows rows_of(const Tuning& tuning) {
  Rows rows;
  for (const Tuning::Row& r : tuning.rows) rows[fmt::format("{}{}.{}", kKernelChoicePrefix, r.op, r.name)] = r.row;
  return rows;
}

// ---- conversions

Result<std::int64_t> elements_of(const Value* v, const SymbolValues& symbols) {
  AOQ_ASSIGN(const std::vector<std::int64_t> shape, evaluate(v->type().shape, symbols));
  std::int64_t count = 1;
  for (std::int64_t d : shape) count *= d;
  return count;
}

// One quantize and one dequantize for every size.
Result<Graph> conversion_graph(const std::set<std::int64_t>& sizes) {
  Graph graph;
  std::vector<Value*> results;
  std::vector<std::string> names;
  for (std::int64_t size : sizes) {
    names.push_back(std::to_string(size));
    Value* x = graph.input("x" + names.back(), Type{DType::f32, {size}, std::nullopt});
    const Attributes scale{{"scale", 0.0078125}, {"zero_point", std::int64_t{128}}};
    Attributes to_codes = scale;
    to_codes.set("dtype", DType::u8);
    AOQ_ASSIGN(Node * q, graph.create(Op::quantize, {x}, std::move(to_codes)));
    AOQ_ASSIGN(Node * dq, graph.create(Op::dequantize, {q->output()}, scale));
    q->origins = dq->origins = {names.back()};
    results.push_back(dq->output());
  }
  AOQ_TRY(graph.output(std::move(results), std::move(names)));
  graph.stage = Stage::lowered;
  return graph;
}

Result<MeasuredConversions> measure_conversions(const std::set<std::int64_t>& sizes, const TunedModel& model,
                                                const Console& console) {
  MeasuredConversions out;
  if (sizes.empty()) return out;
  AOQ_ASSIGN(const Graph graph, conversion_graph(sizes));
  std::vector<Tensor> inputs;
  for (std::int64_t size : sizes) {
    AOQ_ASSIGN(Tensor t, Tensor::make(DType::f32, {size}));
    std::fill(t.mutable_as<float>().begin(), t.mutable_as<float>().end(), 0.5f);
    inputs.push_back(std::move(t));
  }
  AOQ_ASSIGN(std::unique_ptr<TimedGraph> timed, TimedGraph::make(graph, model.options, inputs));
  TimedGraph* const graphs[] = {timed.get()};
  AOQ_TRY(take_turns({graphs, inputs, true, model.seconds / 20, "conversions"}, console).status());
  for (std::size_t s = 0; s < timed->steps().size(); ++s) {
    const std::int64_t size = std::stoll(timed->steps()[s].label);
    std::pair<double, double>& cost = out.by_elements[size];
    (timed->steps()[s].op == "quantize" ? cost.first : cost.second) = median(timed->step_times(s));
  }
  return out;
}

// ---- from steps to costs

bool is_conversion(const std::string& op) {
  return op == "quantize" || op == "dequantize" || op == "choose_qparams";
}

// Sums by label, shared evenly by the nodes that have it.
class Sums {
 public:
  void add(const std::string& label, double us) { sums_[label] += us; }
  void share(const std::string& label) { ++shares_[label]; }
  double of(const std::string& label) const {
    const auto sum = sums_.find(label);
    const auto shares = shares_.find(label);
    return sum == sums_.end() || shares == shares_.end() ? 0 : sum->second / shares->second;
  }
  bool has(const std::string& label) const { return sums_.contains(label); }

 private:
  std::map<std::string, double> sums_;
  std::map<std::string, int> shares_;
};

bool is_made_in_float(const PlacementValue& v) {
  return v.made_by == kFloatMade;
}

// ---- the decision

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
    AOQ_ASSIGN(const RowRace floats, RowRace::make(in_float, model_));
    AOQ_ASSIGN(const RowRace codes, RowRace::make(in_int8, model_));
    std::vector<TimedGraph*> all;
    for (const RowRace* race : {&floats, &codes}) {
      for (const auto& g : race->graphs) all.push_back(g.get());
    }
    AOQ_TRY(take_turns({all, model_.inputs, true, model_.seconds * 0.55, "measuring steps"}, console_).status());
    AOQ_ASSIGN(const MeasuredConversions conversions, measure_conversions(count_elements(), model_, console_));
    const std::vector<MeasuredStep> in_float_steps = floats.judge(tuning_);
    const std::size_t of_float = tuning_.rows.size();
    const std::vector<MeasuredStep> in_int8_steps = codes.judge(tuning_);
    drop_repeated_rows(of_float);
    fill_costs(in_float_steps, in_int8_steps, conversions, placed_);
    name_ops(*floats.graphs[0], *codes.graphs[0]);
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
    constexpr double kLeastShare = 0.02;
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

void fill_costs(std::span<const MeasuredStep> in_float, std::span<const MeasuredStep> in_int8,
                const MeasuredConversions& conversions, PlacementModel& model) {
  Sums floats, codes, quantizes, dequantizes;
  for (const MeasuredStep& s : in_float) floats.add(s.label, s.us);
  for (const MeasuredStep& s : in_int8) {
    (!is_conversion(s.op) ? codes : s.op == "dequantize" ? dequantizes : quantizes).add(s.label, s.us);
  }
  for (const Node* n : model.ops) {
    floats.share(n->label());
    codes.share(n->label());
  }
  for (std::size_t i = 0; i < model.ops.size(); ++i) {
    model.problem.ops[i].float_cost = floats.of(model.ops[i]->label());
    model.problem.ops[i].int8_cost = codes.of(model.ops[i]->label());
  }
  for (std::size_t i = 0; i < model.values.size(); ++i) {
    const PlacementValue& v = model.problem.values[i];
    (is_made_in_float(v) ? quantizes : dequantizes).share(model.values[i].observer);
  }
  for (std::size_t i = 0; i < model.values.size(); ++i) {
    PlacementValue& v = model.problem.values[i];
    const PlacedValue& placed = model.values[i];
    const auto measured = conversions.by_elements.find(placed.elements);
    const auto [quantize, dequantize] =
        measured == conversions.by_elements.end() ? std::pair<double, double>() : measured->second;
    const bool is_quantized = is_made_in_float(v) && quantizes.has(placed.observer);
    v.quantize_cost = is_quantized ? quantizes.of(placed.observer) : quantize;
    const bool is_dequantized = !is_made_in_float(v) && v.is_read_in_float && dequantizes.has(placed.observer);
    // Weighted ops write floats themselves where nobody reads codes.
    const bool writes_floats = v.read_by.empty();
    v.dequantize_cost = writes_floats ? 0 : is_dequantized ? dequantizes.of(placed.observer) : dequantize;
  }
}

Result<Tuning> tune(const TunedModel& model, const Console& console) {
  return Tuner(model, console).run();
}

}  // namespace aoq::tools
