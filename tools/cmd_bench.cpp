// aoq bench: latency, and the ratio of two models that take turns.
//
// A round runs MODEL and MODEL2 once each on the same batch, and the order changes from round to round: whatever slows
// the machine down meets both. The ratio is taken within each round.
//
// With --per-op plain runs take turns with runs whose steps are timed: within the run, and each step repeated by
// itself.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "tools/measure.h"
#include "tools/runner.h"

namespace aoq::tools {

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

double resident_megabytes() {
  std::ifstream file("/proc/self/statm");
  double total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096 / 1e6;
}

// One of the two models that take turns.
struct Contender {
  std::string path;
  std::optional<OpenModel> opened;
  double rss_open_mb = 0, rss_mb = 0;  // of the process: once the model is open, and after a run
  std::vector<double> times;

  Status open(const std::string& model, const ModelOptions& options, const LoadOptions& load) {
    path = model;
    AOQ_ASSIGN(opened, open_model(model, options, load));
    rss_open_mb = resident_megabytes();
    return {};
  }
  // Makes the plan and the packed weights, which belong to loading, and runs it.
  Status warm_up(const std::vector<TensorView>& inputs) {
    auto start = Clock::now();
    Shapes shapes;
    for (const TensorView& input : inputs) shapes.emplace_back(input.shape.begin(), input.shape.end());
    Result<Shapes> planned = opened->session.output_shapes(shapes);
    if (!planned.ok()) return std::move(planned).status().with_context(path);
    opened->load_ms += milliseconds(Clock::now() - start);
    Result<std::span<const TensorView>> first = opened->session.run(inputs);
    if (!first.ok()) return std::move(first).status().with_context(path);
    rss_mb = resident_megabytes();
    return opened->session.run(inputs).status();
  }
  Result<double> time(const std::vector<TensorView>& inputs) {
    auto start = Clock::now();
    AOQ_TRY(opened->session.run(inputs).status());
    times.push_back(milliseconds(Clock::now() - start));
    return times.back();
  }
  Json to_json() const {
    return {{"model", path},
            {"median_ms", quantile(times, 0.5)},
            {"min_ms", quantile(times, 0)},
            {"p90_ms", quantile(times, 0.9)},
            {"runs", times.size()},
            {"load_ms", opened->load_ms},
            {"rss_open_mb", rss_open_mb},
            {"rss_mb", rss_mb}};
  }
};

// The times of the steps of one model, by step and round.
class StepClock {
 public:
  StepClock(Session& session, std::vector<StepInfo> steps)
      : session_(session),
        steps_(std::move(steps)),
        now_(steps_.size()),
        within_(steps_.size()),
        alone_(steps_.size()) {}

  // Runs once with a clock at every step; every fourth time steps are repeated as well.
  Status round(const std::vector<TensorView>& inputs) {
    constexpr int kRepeats = 5;
    AOQ_TRY(session_.run(inputs, StepTimes{now_}).status());
    keep(within_);
    sums_.push_back(static_cast<double>(std::accumulate(now_.begin(), now_.end(), std::int64_t{0})) * 1e-6);
    if (rounds_++ % 4 != 0) return {};
    AOQ_TRY(session_.run(inputs, StepTimes{now_, kRepeats}).status());
    keep(alone_);
    return {};
  }
  // [{"name","op","kernel","slices","median_us","alone_us","macs","gmac_per_s"}]
  Json to_json() const {
    Json ops = Json::array();
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const double median = quantile(within_[i], 0.5);
      const auto macs = static_cast<double>(steps_[i].macs);
      ops.push_back({{"name", steps_[i].label},
                     {"op", steps_[i].op},
                     {"kernel", steps_[i].row},
                     {"slices", steps_[i].slices},
                     {"median_us", median},
                     {"alone_us", quantile(alone_[i], 0.5)},
                     {"macs", steps_[i].macs},
                     {"gmac_per_s", median > 0 ? macs / median * 1e-3 : 0.0}});
    }
    return ops;
  }
  // All steps of a run together: the median over the runs, to be compared with that of whole runs.
  double sum_ms() const { return quantile(sums_, 0.5); }

 private:
  void keep(std::vector<std::vector<double>>& times) {
    for (std::size_t i = 0; i < now_.size(); ++i) times[i].push_back(static_cast<double>(now_[i]) * 1e-3);
  }

  Session& session_;
  std::vector<StepInfo> steps_;
  std::vector<std::int64_t> now_;
  std::vector<std::vector<double>> within_, alone_;  // microseconds
  std::vector<double> sums_;                         // milliseconds
  int rounds_ = 0;
};

// The slowest first, as a table with shares of all.
std::string per_op_table(const Json& ops) {
  double sum = 0;
  std::vector<const Json*> order;
  for (const Json& op : ops) {
    order.push_back(&op);
    sum += op["median_us"].get<double>();
  }
  std::sort(order.begin(), order.end(),
            [](const Json* a, const Json* b) { return (*a)["median_us"] > (*b)["median_us"]; });
  std::vector<std::vector<std::string>> rows{
      {"op", "name", "kernel", "median us", "alone us", "share", "MMAC", "GMAC/s"}};
  for (const Json* op : order) {
    const auto slices = (*op)["slices"].get<std::int64_t>();
    const std::string kernel = (*op)["kernel"].get<std::string>() + (slices > 1 ? fmt::format(" x {}", slices) : "");
    const double us = (*op)["median_us"].get<double>(), macs = (*op)["macs"].get<double>();
    rows.push_back({(*op)["op"].get<std::string>(), (*op)["name"].get<std::string>(), kernel, fmt::format("{:.2f}", us),
                    fmt::format("{:.2f}", (*op)["alone_us"].get<double>()),
                    fmt::format("{:.1f} %", sum > 0 ? us * 100 / sum : 0.0),
                    macs > 0 ? fmt::format("{:.2f}", macs * 1e-6) : "",
                    macs > 0 ? fmt::format("{:.1f}", (*op)["gmac_per_s"].get<double>()) : ""});
  }
  return format_table(rows);
}

class Bench : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .aoq, .onnx or .aoqir");
    flags.text("--against", "MODEL2", against_, "A second model; the two take turns");
    tools::declare(flags, data_, Flags::Need::optional);
    flags.real("--seconds", "S", seconds_, "How long to measure (default 5)");
    flags.list("--shape", "NAME=1x3x224x224", shapes_,
               "The shape of a made-up input, where it is symbolic; repeatable");
    flags.flag("--per-op", per_op_, "Time every op as well: within the run, and repeated by itself");
    tools::declare(flags, run_);
    declare_batch_loops(flags, run_);
  }

  Status run(Console& console) override {
    if (!(seconds_ > 0)) return error(Code::invalid_argument, "--seconds is {}, expected a positive number", seconds_);
    if (per_op_ && !against_.empty()) {
      return error(Code::invalid_argument, "--per-op is for one model: leave out --against, or run bench twice");
    }
    ModelOptions options = to_model_options(run_);
    Contender a, b;
    AOQ_TRY(a.open(model_, options, load_options(model_, run_)));
    AOQ_TRY(make_inputs(*a.opened));
    AOQ_TRY(a.warm_up(batch(0)));
    if (!against_.empty()) {
      double before = resident_megabytes();
      AOQ_TRY(b.open(against_, options, load_options(against_, run_)));
      AOQ_TRY(check_same_inputs(a.opened->model(), b.opened->model()));
      AOQ_TRY(b.warm_up(batch(0)));
      b.rss_mb -= before - rss_at_start_;  // as if it were alone
    }
    if (per_op_) AOQ_TRY(make_clock(*a.opened));
    AOQ_ASSIGN(std::vector<double> ratios, measure(console, a, against_.empty() ? nullptr : &b));
    report(console, a, against_.empty() ? nullptr : &b, ratios, options.pool->size());
    return {};
  }

 private:
  Status make_inputs(OpenModel& opened) {
    Session& session = opened.session;
    if (!data_.input.empty()) {
      AOQ_ASSIGN(DataSet data, DataSet::open(input_ports(session.model().graph()), data_));
      for (std::int64_t i = 0; i < std::min<std::int64_t>(data.batch_count(), 64); ++i) {
        AOQ_ASSIGN(std::vector<Tensor> tensors, data.batch(i));
        // A smaller last batch would be another shape.
        if (i == 0 || data.batch_samples(i) == data.batch_samples(0)) batches_.push_back(std::move(tensors));
      }
      return {};
    }
    Shapes shapes;
    PlanShapes wanted{.given = shapes_, .batch = std::max<std::int64_t>(data_.batch, 1)};
    auto start = Clock::now();
    AOQ_TRY(describe_plan(session, wanted, &shapes).status());
    opened.load_ms += milliseconds(Clock::now() - start);
    AOQ_ASSIGN(std::vector<Tensor> tensors, made_up_inputs(session.model(), shapes));
    batches_.push_back(std::move(tensors));
    return {};
  }

  Status make_clock(OpenModel& opened) {
    Shapes shapes;
    for (const TensorView& input : batch(0)) shapes.emplace_back(input.shape.begin(), input.shape.end());
    AOQ_ASSIGN(PlanInfo info, opened.session.describe(shapes));
    clock_.emplace(opened.session, std::move(info.steps));
    return {};
  }

  static Status check_same_inputs(const Model& a, const Model& b) {
    bool same = a.inputs().size() == b.inputs().size();
    for (std::size_t i = 0; same && i < a.inputs().size(); ++i) {
      same = a.inputs()[i].name == b.inputs()[i].name && a.inputs()[i].type.dtype == b.inputs()[i].type.dtype;
    }
    if (same) return {};
    return error(Code::invalid_data,
                 "--against: the two models have different inputs, expected the same names and types");
  }

  std::vector<TensorView> batch(std::size_t round) const { return views_of(batches_[round % batches_.size()]); }

  // At least 5 rounds, then until the time is over. The result has MODEL2's time over MODEL's for each round.
  Result<std::vector<double>> measure(Console& console, Contender& a, Contender* b) {
    constexpr std::size_t kMinRounds = 5;
    Progress progress(console, "measuring", static_cast<std::int64_t>(seconds_ * 1000));
    std::vector<double> ratios;
    auto start = Clock::now(), last = start;
    for (std::size_t round = 0;; ++round) {
      auto now = Clock::now();
      if (round >= kMinRounds && milliseconds(now - start) >= seconds_ * 1000) break;
      progress.advance(static_cast<std::int64_t>(milliseconds(now - start)) -
                       static_cast<std::int64_t>(milliseconds(last - start)));
      last = now;
      std::vector<TensorView> inputs = batch(round);
      Contender* first = b != nullptr && round % 2 == 1 ? b : &a;
      AOQ_TRY(first->time(inputs).status());
      if (clock_) AOQ_TRY(clock_->round(inputs));
      if (b == nullptr) continue;
      Contender* second = first == &a ? b : &a;
      AOQ_TRY(second->time(inputs).status());
      ratios.push_back(b->times.back() / a.times.back());
    }
    return ratios;
  }

  void report(Console& console, const Contender& a, const Contender* b, const std::vector<double>& ratios,
              int threads) const {
    Json document = a.to_json();
    document["threads"] = threads;
    document["isa"] = machine_info().isa;
    document["against"] = b != nullptr ? b->to_json() : Json();
    document["ratio_median"] = b != nullptr ? Json(quantile(ratios, 0.5)) : Json();
    if (clock_) {
      document["ops"] = clock_->to_json();
      document["sum_ms"] = clock_->sum_ms();
    }
    if (console.json) return console.document(document);
    std::vector<std::vector<std::string>> rows{
        {"model", "median ms", "min ms", "p90 ms", "runs", "load ms", "memory MB"}};
    for (const Contender* c : {&a, b}) {
      if (c == nullptr) continue;
      rows.push_back({c->path, fmt::format("{:.3f}", quantile(c->times, 0.5)),
                      fmt::format("{:.3f}", quantile(c->times, 0)), fmt::format("{:.3f}", quantile(c->times, 0.9)),
                      std::to_string(c->times.size()), fmt::format("{:.1f}", c->opened->load_ms),
                      fmt::format("{:.1f}", c->rss_mb)});
    }
    std::string text = format_table(rows) + fmt::format("{} threads, {}\n", threads, machine_info().isa);
    if (b != nullptr) {
      text += fmt::format("{} is {:.2f} times as fast as {} (median over {} rounds)\n", a.path, quantile(ratios, 0.5),
                          b->path, ratios.size());
    }
    if (clock_) {
      text += "\n" + per_op_table(document["ops"]);
      text += fmt::format("the ops take {:.3f} ms together, a whole run {:.3f} ms\n", clock_->sum_ms(),
                          quantile(a.times, 0.5));
    }
    console.print(text);
  }

  std::string model_, against_;
  bool per_op_ = false;
  std::optional<StepClock> clock_;
  double seconds_ = 5;
  std::vector<std::string> shapes_;
  DataOptions data_;
  RunOptions run_;
  std::vector<std::vector<Tensor>> batches_;
  double rss_at_start_ = resident_megabytes();
};

}  // namespace

extern const CommandDef kCommand_bench;
const CommandDef kCommand_bench = {
    .name = "bench",
    .summary = "Measure latency, alone or in turns with a second model",
    .examples = {"bench int8.aoq --against float.aoq --seconds 10 --threads 1", "bench int8.aoq --per-op --threads 1",
                 "bench model.onnx --shape x=1x3x224x224 --json"},
    .make = make_command<Bench>};

}  // namespace aoq::tools
