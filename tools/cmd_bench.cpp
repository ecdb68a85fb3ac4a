// aoq bench: latency, and the ratio of two models that take turns.
//
// A round runs MODEL and MODEL2 once each on the same batch, and the order changes from round to round: whatever slows
// the machine down meets both. The ratio is taken within each round.
#include <algorithm>
#include <chrono>
#include <fstream>
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
  double rss_mb = 0;
  std::vector<double> times;

  Status open(const std::string& model, const ModelOptions& options, const LoadOptions& load) {
    path = model;
    AOQ_ASSIGN(opened, open_model(model, options, load));
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
            {"rss_mb", rss_mb}};
  }
};

class Bench : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .aoq, .onnx or .aoqir");
    flags.text("--against", "MODEL2", against_, "A second model; the two take turns");
    tools::declare(flags, data_, Flags::Need::optional);
    flags.real("--seconds", "S", seconds_, "How long to measure (default 5)");
    flags.list("--shape", "NAME=1x3x224x224", shapes_,
               "The shape of a made-up input, where it is symbolic; repeatable");
    tools::declare(flags, run_);
  }

  Status run(Console& console) override {
    if (!(seconds_ > 0)) return error(Code::invalid_argument, "--seconds is {}, expected a positive number", seconds_);
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
    console.print(text);
  }

  std::string model_, against_;
  double seconds_ = 5;
  std::vector<std::string> shapes_;
  DataOptions data_;
  RunOptions run_;
  std::vector<std::vector<Tensor>> batches_;
  double rss_at_start_ = resident_megabytes();
};

}  // namespace

extern const CommandDef kCommand_bench;
const CommandDef kCommand_bench = {.name = "bench",
                                   .summary = "Measure latency, alone or in turns with a second model",
                                   .examples = {"bench int8.aoq --against float.aoq --seconds 10 --threads 1",
                                                "bench model.onnx --shape x=1x3x224x224 --json"},
                                   .make = make_command<Bench>};

}  // namespace aoq::tools
