// aoq compare: how far a model is from a reference.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "runtime/graph_executor.h"
#include "tools/compiler.h"
#include "tools/metrics.h"
#include "tools/op_error.h"
#include "tools/runner.h"
#include "tools/simulated_pair.h"

namespace aoq::tools {

namespace {

Json number_or_null(std::optional<double> value) {
  return value ? Json(*value) : Json();
}

struct OutputPair {
  std::string name;
  std::size_t a = 0, b = 0;
  ErrorSum error;
};

// By name; by position where no name is shared.
Result<std::vector<OutputPair>> pair_outputs(const Model& a, const Model& b) {
  std::vector<OutputPair> pairs;
  for (std::size_t i = 0; i < a.outputs().size(); ++i) {
    for (std::size_t j = 0; j < b.outputs().size(); ++j) {
      if (a.outputs()[i].name == b.outputs()[j].name) pairs.push_back({a.outputs()[i].name, i, j, {}});
    }
  }
  if (!pairs.empty()) return pairs;
  if (a.outputs().size() != b.outputs().size()) {
    return error(Code::invalid_data,
                 "the models share no output name and have {} and {} outputs, expected the same outputs",
                 a.outputs().size(), b.outputs().size());
  }
  for (std::size_t i = 0; i < a.outputs().size(); ++i) pairs.push_back({a.outputs()[i].name, i, i, {}});
  return pairs;
}

// The order of b's inputs in a's.
Result<std::vector<std::size_t>> match_inputs(const Model& a, const Model& b) {
  std::vector<std::size_t> order;
  for (const Port& port : b.inputs()) {
    std::size_t i = 0;
    while (i < a.inputs().size() && a.inputs()[i].name != port.name) ++i;
    if (i == a.inputs().size() || a.inputs()[i].type.dtype != port.type.dtype) {
      return error(Code::invalid_data, "the second model's input \"{}\" ({}) is no input of the first", port.name,
                   to_string(port.type));
    }
    order.push_back(i);
  }
  if (order.size() == a.inputs().size()) return order;
  return error(Code::invalid_data, "the models have {} and {} inputs, expected the same", a.inputs().size(),
               order.size());
}

class Compare : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("A", a_, "The reference: .aoq, .onnx or .aoqir");
    flags.positional("B", b_, "The model to compare with it; with --simulate A by default", Flags::Need::optional);
    tools::declare(flags, data_);
    flags.text("--labels", "Y.npy", labels_, "Integer labels, one per sample: gives the metric of both");
    flags.choice("--metric", metric_, metric_names(), "With --labels (default top1)");
    flags.flag("--per-op", per_op_,
               "Also the error that each op of B introduces by itself, and its weights; worst first");
    flags.flag("--simulate", simulate_, "Run B in float with quantize and dequantize at every stub of a recipe");
    flags.choice("--quantize", quantize_.quantize, {"static", "dynamic", "weight-only"}, "With --simulate: how");
    flags.text("--recipe", "FILE.json", quantize_.recipe, "With --simulate: what to quantize, and how");
    flags.text("--calibrate", "DATA", quantize_.calibrate, "With --simulate: calibration data");
    flags.list("--ranges", "FILE.json", quantize_.ranges, "With --simulate: ranges in place of data; repeatable");
    flags.list("--keep-float", "NAME_OR_TYPE", quantize_.keep_float,
               "With --simulate: what to leave in float; repeatable");
    flags.real("--min-sqnr", "DB", min_sqnr_, "Exit 1 when an output is below");
    flags.real("--min-agreement", "SHARE", min_agreement_, "Exit 1 when an output is below");
    flags.real("--max-abs", "ERROR", max_abs_, "Exit 1 when an output has a larger error");
    tools::declare(flags, run_);
  }

  Status run(Console& console) override {
    std::optional<Tensor> labels;
    if (!labels_.empty()) {
      AOQ_ASSIGN(labels, read_array(labels_));
    } else if (!metric_.empty()) {
      return error(Code::invalid_argument, "--metric needs --labels Y.npy");
    }
    if (metric_.empty()) metric_ = "top1";
    AOQ_TRY(check_simulation_flags());
    if (simulate_) {
      AOQ_TRY(run_simulated(labels, console));
      report(console);
      return check_thresholds();
    }
    ModelOptions options = to_model_options(run_);
    AOQ_ASSIGN(OpenModel a, open_model(a_, options, load_options(a_, run_)));
    AOQ_ASSIGN(OpenModel b, open_model(b_, options, load_options(b_, run_)));
    AOQ_ASSIGN(pairs_, pair_outputs(a.model(), b.model()));
    AOQ_ASSIGN(order_, match_inputs(a.model(), b.model()));
    AOQ_ASSIGN(DataSet data, DataSet::open(input_ports(a.graph()), data_));
    AOQ_TRY(make_metrics(labels, data));
    if (!per_op_) {
      AOQ_TRY(run_both(a.session, b.session, data, console, nullptr));
    } else {
      GraphExecutor executor(options);
      Graph reference = a.graph().clone();
      AOQ_TRY(unpack_constants(reference, *options.backends[0]));
      AOQ_ASSIGN(OpErrors errors, OpErrors::make(reference, b.graph(), executor, *options.backends[0]));
      AOQ_TRY(run_both(a.session, b.session, data, console, &errors));
      ops_ = figures_of(errors.entries());
      weights_ = figures_of(errors.weights());
    }
    report(console);
    return check_thresholds();
  }

 private:
  // A line of the error report.
  struct Figures {
    std::string name, op;
    double sqnr_db = 0, relative_error = 0;
    std::optional<double> saturation;
  };

  template <class Entry>
  static std::vector<Figures> figures_of(const std::vector<Entry>& entries) {
    // Equal ones stay in the order of the graph.
    std::multimap<double, Figures> sorted;
    for (const Entry& e : entries) {
      sorted.emplace(e.sqnr_db, Figures{e.name, e.op, e.sqnr_db, e.relative_error, e.saturation});
    }
    std::vector<Figures> figures;
    for (auto& [sqnr, f] : sorted) figures.push_back(std::move(f));
    return figures;
  }

  Status check_simulation_flags() const {
    const bool has_any = !quantize_.quantize.empty() || !quantize_.recipe.empty() || !quantize_.calibrate.empty() ||
                         !quantize_.ranges.empty() || !quantize_.keep_float.empty();
    if (has_any && !simulate_) {
      return error(Code::invalid_argument,
                   "--quantize, --recipe, --calibrate, --ranges and --keep-float say what to simulate: add --simulate");
    }
    return b_.empty() && !simulate_
               ? error(Code::invalid_argument, "B is missing: expected a second model, or --simulate")
               : Status();
  }

  Status make_metrics(const std::optional<Tensor>& labels, const DataSet& data) {
    if (!labels) return {};
    for (std::optional<Metric>* metric : {&metric_a_, &metric_b_}) {
      Result<Metric> made = Metric::make(metric_, *labels, data.total_samples());
      if (!made.ok()) return std::move(made).status().with_context(labels_);
      *metric = std::move(*made);
    }
    return {};
  }

  Status run_simulated(const std::optional<Tensor>& labels, Console& console) {
    quantize_.run = run_;
    AOQ_ASSIGN(SimulatedPair pair, simulated_pair(a_, b_.empty() ? a_ : b_, quantize_, console));
    for (const std::string& warning : pair.warnings) console.note("warning: " + warning);
    for (std::size_t i = 0; i < pair.outputs.size(); ++i) pairs_.push_back({pair.outputs[i], i, i, {}});
    AOQ_ASSIGN(DataSet data, DataSet::open(pair.inputs, data_));
    AOQ_TRY(make_metrics(labels, data));
    Progress progress(console, "comparing", data.samples());
    for (std::int64_t i = 0; i < data.batch_count(); ++i) {
      AOQ_ASSIGN(std::vector<Tensor> inputs, data.batch(i));
      Result<Simulation::Outputs> outputs = pair.simulation.run(inputs);
      if (!outputs.ok()) {
        return std::move(outputs).status().with_context(fmt::format("sample {}", data.first_sample(i)));
      }
      AOQ_TRY(add_outputs(views_of(outputs->reference), views_of(outputs->simulated), data.batch_samples(i)));
      progress.advance(data.batch_samples(i));
    }
    if (!per_op_) return {};
    ops_ = figures_of(pair.simulation.activations());
    weights_ = figures_of(pair.simulation.weights());
    values_ = figures_of(pair.simulation.values());
    return {};
  }

  Status add_outputs(std::span<const TensorView> x, std::span<const TensorView> y, std::int64_t samples) {
    for (OutputPair& pair : pairs_) {
      Status status = pair.error.add(x[pair.a], y[pair.b]);
      if (!status.ok()) return std::move(status).with_context(fmt::format("output \"{}\"", pair.name));
    }
    if (metric_a_) AOQ_TRY(metric_a_->add(x[0], samples));
    if (metric_b_) AOQ_TRY(metric_b_->add(y[0], samples));
    return {};
  }

  Status run_both(Session& a, Session& b, const DataSet& data, const Console& console, OpErrors* errors) {
    Progress progress(console, "comparing", data.samples());
    for (std::int64_t i = 0; i < data.batch_count(); ++i) {
      AOQ_ASSIGN(std::vector<Tensor> inputs, data.batch(i));
      Status status = run_batch(a, b, inputs, data.batch_samples(i), errors);
      if (!status.ok()) return std::move(status).with_context(fmt::format("sample {}", data.first_sample(i)));
      progress.advance(data.batch_samples(i));
    }
    return {};
  }

  Status run_batch(Session& a, Session& b, const std::vector<Tensor>& inputs, std::int64_t samples, OpErrors* errors) {
    std::vector<TensorView> views = views_of(inputs), views_b;
    for (std::size_t i : order_) views_b.push_back(views[i]);
    Result<std::span<const TensorView>> x = a.run(views);
    if (!x.ok()) return std::move(x).status().with_context(a_);
    Result<std::span<const TensorView>> y = errors != nullptr ? b.run(views_b, errors->tap()) : b.run(views_b);
    if (!y.ok()) return std::move(y).status().with_context(b_);
    AOQ_TRY(add_outputs(*x, *y, samples));
    return errors != nullptr ? errors->finish_batch() : Status();
  }

  void report(Console& console) const {
    if (console.json) return console.document(to_json());
    std::vector<std::vector<std::string>> rows{{"output", "SQNR dB", "cosine", "max abs", "mean abs", "agreement"}};
    for (const OutputPair& p : pairs_) {
      std::optional<double> agreement = p.error.agreement();
      rows.push_back({p.name, fmt::format("{:.2f}", p.error.sqnr_db()), fmt::format("{:.6f}", p.error.cosine()),
                      fmt::format("{:.3g}", p.error.max_abs()), fmt::format("{:.3g}", p.error.mean_abs()),
                      agreement ? fmt::format("{:.4f}", *agreement) : "-"});
    }
    std::string text = format_table(rows);
    if (metric_a_) text += fmt::format("{}: {:.4f} and {:.4f}\n", metric_, metric_a_->value(), metric_b_->value());
    if (per_op_) text += table_of(simulate_ ? "error of each quantized activation" : "error of each op", ops_);
    if (per_op_ && !weights_.empty()) text += table_of("error of each weight", weights_);
    if (!values_.empty()) text += table_of("error up to each value", values_);
    console.print(text);
  }

  static std::string table_of(const char* title, const std::vector<Figures>& list) {
    std::vector<std::vector<std::string>> rows{{title, "op", "SQNR dB", "relative", "saturated"}};
    for (const Figures& f : list) {
      rows.push_back({f.name, f.op, fmt::format("{:.2f}", f.sqnr_db), fmt::format("{:.3g}", f.relative_error),
                      f.saturation ? fmt::format("{:.4f}", *f.saturation) : "-"});
    }
    return "\n" + format_table(rows);
  }

  static Json list_to_json(const std::vector<Figures>& list) {
    Json json = Json::array();
    for (const Figures& f : list) {
      json.push_back({{"name", f.name},
                      {"op", f.op},
                      {"sqnr_db", f.sqnr_db},
                      {"relative_error", f.relative_error},
                      {"saturation", number_or_null(f.saturation)}});
    }
    return json;
  }

  Json to_json() const {
    Json document{{"outputs", Json::array()}, {"metric", Json()}};
    for (const OutputPair& p : pairs_) {
      document["outputs"].push_back({{"name", p.name},
                                     {"sqnr_db", p.error.sqnr_db()},
                                     {"cosine", p.error.cosine()},
                                     {"max_abs", p.error.max_abs()},
                                     {"mean_abs", p.error.mean_abs()},
                                     {"agreement", number_or_null(p.error.agreement())},
                                     {"nonfinite_mismatches", p.error.nonfinite_mismatches()}});
    }
    if (metric_a_) document["metric"] = {{"name", metric_}, {"a", metric_a_->value()}, {"b", metric_b_->value()}};
    if (!per_op_) return document;
    document["ops"] = list_to_json(ops_);
    document["weights"] = list_to_json(weights_);
    if (simulate_) document["values"] = list_to_json(values_);
    return document;
  }

  Status check_thresholds() const {
    for (const OutputPair& p : pairs_) {
      if (p.error.sqnr_db() < min_sqnr_) {
        return error(ErrorId::threshold, "output \"{}\": SQNR is {:.2f} dB, expected at least {}", p.name,
                     p.error.sqnr_db(), min_sqnr_);
      }
      std::optional<double> agreement = p.error.agreement();
      if (agreement && *agreement < min_agreement_) {
        return error(ErrorId::threshold, "output \"{}\": agreement is {:.4f}, expected at least {}", p.name, *agreement,
                     min_agreement_);
      }
      if (p.error.max_abs() > max_abs_ || (std::isfinite(max_abs_) && p.error.nonfinite_mismatches() > 0)) {
        return error(ErrorId::threshold, "output \"{}\": the largest error is {}, expected at most {}", p.name,
                     p.error.nonfinite_mismatches() > 0 ? HUGE_VAL : p.error.max_abs(), max_abs_);
      }
    }
    return {};
  }

  std::string a_, b_, labels_, metric_;
  bool per_op_ = false;
  double min_sqnr_ = -HUGE_VAL, min_agreement_ = -HUGE_VAL, max_abs_ = HUGE_VAL;
  DataOptions data_;
  RunOptions run_;
  std::vector<OutputPair> pairs_;
  std::vector<std::size_t> order_;
  std::optional<Metric> metric_a_, metric_b_;
  bool simulate_ = false;
  QuantizeFlags quantize_;  // with simulate_; not declared as a whole, as data flags are those of the comparison
  std::vector<Figures> ops_, weights_, values_;
};

}  // namespace

extern const CommandDef kCommand_compare;
const CommandDef kCommand_compare = {.name = "compare",
                                     .summary = "Measure how far a model is from a reference",
                                     .examples = {"compare float.aoq int8.aoq --input data.npz --per-op",
                                                  "compare model.onnx int8.aoq --input data.npz --labels labels.npy "
                                                  "--metric top1 --min-sqnr 20",
                                                  "compare model.onnx --simulate --recipe recipe.json --ranges "
                                                  "ranges.json --input data.npz --per-op"},
                                     .make = make_command<Compare>};

}  // namespace aoq::tools
