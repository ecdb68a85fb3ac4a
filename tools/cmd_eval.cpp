// aoq eval: a figure of merit against labels.
#include <cmath>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "tools/metrics.h"
#include "tools/runner.h"

namespace aoq::tools {

namespace {

class Eval : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .aoq, .onnx or .aoqir");
    tools::declare(flags, data_);
    flags.text("--labels", "Y.npy", labels_, "Integer labels, one per sample", Flags::Need::required);
    flags.choice("--metric", metric_, metric_names(), "Of the first output, along its last axis");
    flags.real("--at-least", "VALUE", at_least_, "Exit 1 when the value is smaller");
    tools::declare(flags, run_);
    declare_batch_loops(flags, run_);
  }

  Status run(Console& console) override {
    AOQ_ASSIGN(Tensor labels, read_array(labels_));
    AOQ_ASSIGN(OpenModel opened, open_model(model_, run_));
    AOQ_ASSIGN(DataSet data, DataSet::open(input_ports(opened.graph()), data_));
    Result<Metric> metric = Metric::make(metric_, labels, data.total_samples());
    if (!metric.ok()) return std::move(metric).status().with_context(labels_);
    BatchDone score = [&](std::int64_t i, std::span<const TensorView> outputs) {
      return metric->add(outputs[0], data.batch_samples(i));
    };
    AOQ_TRY(run_batches(opened.session, data, console, "evaluating", score));
    double value = metric->value();
    if (console.json) {
      console.document({{"metric", metric_}, {"value", value}, {"samples", data.samples()}});
    } else {
      console.print(fmt::format("{}: {:.4f} ({} samples)\n", metric_, value, data.samples()));
    }
    if (value < at_least_)
      return error(ErrorId::threshold, "{} is {}, expected at least {}", metric_, value, at_least_);
    return {};
  }

 private:
  std::string model_, labels_, metric_ = "top1";
  double at_least_ = -HUGE_VAL;
  DataOptions data_;
  RunOptions run_;
};

}  // namespace

extern const CommandDef kCommand_eval;
const CommandDef kCommand_eval = {
    .name = "eval",
    .summary = "Measure a model's accuracy on labelled data",
    .examples = {"eval int8.aoq --input data.npz --labels labels.npy --metric top1",
                 "eval int8.aoq --input x.npy --labels labels.npy --metric top5 --at-least 0.9"},
    .make = make_command<Eval>};

}  // namespace aoq::tools
