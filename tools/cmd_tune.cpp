// aoq tune: measures float against int8 and kernel rows against each other on this machine, for `compile --tuning`.
#include <fmt/format.h>

#include "tools/model_file.h"
#include "tools/output_file.h"
#include "tools/quantize_flags.h"
#include "tools/tuner.h"
#include "tools/version.h"

namespace aoq::tools {

namespace {

// One batch, once.
class OneBatch : public CalibrationData {
 public:
  explicit OneBatch(std::vector<Tensor> batch) : batch_(std::move(batch)) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (is_done_) return false;
    batch = batch_;
    return is_done_ = true;
  }
  bool rewind() override {
    is_done_ = false;
    return true;
  }

 private:
  std::vector<Tensor> batch_;
  bool is_done_ = false;
};

class Tune : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .onnx or .aoqir");
    flags.text("-o,--output", "TUNING.json", output_, "The file to write", Flags::Need::required);
    flags.real("--seconds", "S", seconds_, "How long to measure (default 10; up to twice that where it is noisy)");
    flags.list("--shape", "NAME=1x3x224x224", shapes_,
               "The shape to measure at, where an input is symbolic; repeatable");
    quantize_.declare(flags);
  }

  Status run(Console& console) override {
    AOQ_TRY(check_flags());
    AOQ_ASSIGN(LoadedModel loaded, load_model(model_, {.hash = ContentHash::compute, .bind = quantize_.run.bind}));
    if (loaded.graph.stage != Stage::traced) {
      return error(Code::invalid_argument, "{}: the graph is {} already, expected a float model (.onnx or .aoqir)",
                   model_, stage_name(loaded.graph.stage));
    }
    TunedModel tuned;
    tuned.options = to_model_options(quantize_.run);
    tuned.seconds = seconds_;
    AOQ_ASSIGN(tuned.recipe, read_recipe(quantize_));
    AOQ_ASSIGN(tuned.inputs, make_inputs(loaded.graph, tuned.options));
    tuned.compile = [&](const Compilation& how) { return compile(loaded.graph, tuned.inputs, how, console); };
    Result<Tuning> measured = tune(tuned, console);
    if (!measured.ok()) {
      const char* on = quantize_.brings_data ? " on made-up numbers (--calibrate gives it data)" : "";
      return std::move(measured).status().with_context("tune " + model_ + on);
    }
    describe_run(loaded, tuned, *measured);
    AOQ_TRY(write_output(output_, measured->to_json()));
    report(console, *measured);
    return {};
  }

 private:
  Status check_flags() {
    if (!(seconds_ > 0)) return error(Code::invalid_argument, "--seconds is {}, expected a positive number", seconds_);
    // Times do not depend on ranges: numbers that are made up do where no data is given.
    quantize_.brings_data = quantize_.calibrate.empty() && quantize_.ranges.empty() &&
                            (quantize_.quantize.empty() || quantize_.quantize == "static");
    AOQ_TRY(read_recipe(quantize_).status());
    return check_output(output_);
  }

  // The first batch of the data, else made up.
  Result<std::vector<Tensor>> make_inputs(const Graph& traced, const ModelOptions& options) const {
    if (!quantize_.calibrate.empty()) {
      DataOptions wanted = quantize_.data;
      wanted.input = quantize_.calibrate;
      AOQ_ASSIGN(DataSet data, DataSet::open(input_ports(traced), wanted));
      return data.batch(0);
    }
    CompileOptions in_float;
    in_float.recipe.mode = QuantMode::none;
    AOQ_ASSIGN(Compiled compiled, compile_graph(traced.clone(), std::move(in_float)));
    AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_graph(std::move(compiled.graph), options));
    AOQ_ASSIGN(Session session, Session::create(model));
    Shapes shapes;
    const PlanShapes wanted{.given = shapes_, .batch = std::max<std::int64_t>(quantize_.data.batch, 1)};
    AOQ_TRY(describe_plan(session, wanted, &shapes).status());
    return made_up_inputs(*model, shapes);
  }

  Result<Compiled> compile(const Graph& traced, const std::vector<Tensor>& inputs, const Compilation& how,
                           const Console& console) const {
    CompileOptions options;
    options.place = how.place;
    if (how.in_float) {
      options.recipe.mode = QuantMode::none;
      return compile_graph(traced.clone(), std::move(options));
    }
    OneBatch data(inputs);
    if (quantize_.brings_data) options.data = &data;
    return compile_with_flags(traced.clone(), quantize_, std::move(options), console);
  }

  void describe_run(const LoadedModel& loaded, const TunedModel& tuned, Tuning& tuning) const {
    const MachineInfo machine = machine_info();
    tuning.aoq = kVersion;
    tuning.isa = machine.isa;
    tuning.onednn = onednn();
    tuning.threads = tuned.options.pool->size();
    tuning.deterministic = quantize_.run.deterministic;
    tuning.quantize = mode_name(tuned.recipe.mode);
    tuning.source_hash = loaded.hash;
    const std::vector<InputPort> ports = input_ports(loaded.graph);
    for (std::size_t i = 0; i < tuned.inputs.size(); ++i) tuning.shapes[ports[i].name] = tuned.inputs[i].shape();
  }

  void report(Console& console, const Tuning& t) const {
    const auto in_float =
        std::count_if(t.ops.begin(), t.ops.end(), [](const Tuning::Op& op) { return !op.runs_in_int8; });
    const auto in_int8 = static_cast<std::ptrdiff_t>(t.ops.size()) - in_float;
    const Tuning::Whole whole = t.whole.value_or(Tuning::Whole{});
    if (console.json) {
      return console.document({{"output", output_},
                               {"isa", t.isa},
                               {"threads", t.threads},
                               {"noise", t.noise},
                               {"ops", {{"int8", in_int8}, {"float32", in_float}}},
                               {"rows", t.rows.size()},
                               {"float_us", whole.float_us},
                               {"int8_us", whole.int8_us},
                               {"chosen_us", whole.chosen_us}});
    }
    std::vector<std::vector<std::string>> rows;
    for (const Tuning::Op& op : t.ops) {
      if (op.runs_in_int8) continue;
      rows.push_back({"  " + op.name, op.op, fmt::format("{:.1f}", op.float_us), fmt::format("{:.1f}", op.int8_us)});
    }
    if (!rows.empty())
      rows.insert(rows.begin(), {"  stays in float", "op", "float us", "int8 us, without conversions"});
    std::string text = format_table(rows);
    for (const Tuning::Row& r : t.rows) {
      text +=
          fmt::format("  {} ({}): {} takes {:.1f} us, {} {:.1f}\n", r.name, r.op, r.row, r.us, r.before, r.before_us);
    }
    text += fmt::format(
        "{}: {} ops in int8, {} in float; the whole in float {:.1f} us, in int8 {:.1f}, as chosen {:.1f} "
        "({} threads, {}, noise {:.1f} %)\n",
        output_, in_int8, in_float, whole.float_us, whole.int8_us, whole.chosen_us, t.threads, t.isa, t.noise * 100);
    console.print(text);
  }

  std::string model_, output_;
  double seconds_ = 10;
  std::vector<std::string> shapes_;
  QuantizeFlags quantize_;
};

}  // namespace

extern const CommandDef kCommand_tune;
const CommandDef kCommand_tune = {
    .name = "tune",
    .summary = "Measure float against int8, and kernels, on this machine",
    .examples = {"tune model.onnx -o tuning.json", "tune model.onnx --recipe recipe.json -o tuning.json"},
    .make = make_command<Tune>};

}  // namespace aoq::tools
