// aoq compile: import, quantize, lower, pack, write.
#include <chrono>
#include <filesystem>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "passes/quantize/weights.h"
#include "runtime/session.h"
#include "tools/model_file.h"
#include "tools/op_list.h"
#include "tools/output_file.h"
#include "tools/quantize_flags.h"
#include "tools/report.h"
#include "tools/tuning_flag.h"

namespace aoq::tools {

namespace {

class Compile : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .onnx, .aoqir or .aoq");
    flags.text("-o,--output", "OUT.aoq", output_, "The file to write", Flags::Need::required);
    quantize_.declare(flags);
    flags.choice("--target", target_, {"cpu", "cuda"}, "Device");
    flags.choice("--cpu", cpu_, cpu_classes(), "Kernel class to pack weights for; native: this machine");
    flags.text("--tuning", "FILE|estimate|none", tuning_,
               "What to leave in float because int8 is slower: measurements of `aoq tune`, a guess (default with the "
               "built-in static recipe), or nothing");
    flags.flag("--strict", strict_, "Exit 1 and write nothing when an op does not run in the precision asked for");
    flags.text("--report", "OUT.html", report_, "Write a page that says what became of every op");
  }

  Status run(Console& console) override {
    auto start = std::chrono::steady_clock::now();
    AOQ_TRY(check_flags());
    AOQ_ASSIGN(LoadedModel loaded, load_model(model_, {.hash = ContentHash::compute, .bind = quantize_.run.bind}));
    if (loaded.form == ModelForm::aoq) {
      return error(Code::invalid_argument, "{}: is compiled already, expected a float model (.onnx or .aoqir)", model_);
    }
    AOQ_ASSIGN(Recipe recipe, read_recipe(quantize_));
    if (loaded.graph.stage > Stage::prepared && recipe.mode != QuantMode::none) {
      return error(Code::invalid_argument,
                   "{}: the graph is {} already; compile it without --quantize, --calibrate and "
                   "--ranges",
                   model_, stage_name(loaded.graph.stage));
    }
    CompileOptions options;
    options.cpu_class = cpu_;
    options.source_hash = loaded.hash;
    std::vector<std::string> warnings;
    AOQ_TRY(use_tuning(tuning_, quantize_, options, warnings));
    Result<Compiled> compiled = compile_with_flags(std::move(loaded.graph), quantize_, std::move(options), console);
    if (!compiled.ok()) {
      bool is_usage = compiled.status().code() == Code::invalid_argument;
      return is_usage ? std::move(compiled).status() : std::move(compiled).status().with_context("compile " + model_);
    }
    compiled->warnings.insert(compiled->warnings.end(), warnings.begin(), warnings.end());
    for (const std::string& warning : compiled->warnings) console.note("warning: " + warning);
    std::vector<OpEntry> ops = list_ops(compiled->graph, steps_of(compiled->graph));
    std::vector<const OpEntry*> missed = not_as_requested(ops);
    Json document{{"ops", count_by_precision(ops)},
                  {"float_because", float_because(ops)},
                  {"warnings", compiled->warnings},
                  {"input_bytes", loaded.file_bytes},
                  {"output_bytes", 0},
                  {"seconds", 0}};
    if (!compiled->layers.empty()) document["layers"] = layers_json(compiled->layers);
    bool fails = strict_ && !missed.empty();
    if (!fails) {
      AOQ_TRY(write_output(
          output_, [&](const ByteSink& sink) { return write_aoq(compiled->graph, compiled->provenance, sink); }));
      std::error_code ignored;
      document["output_bytes"] = std::filesystem::file_size(output_, ignored);
      if (!report_.empty())
        AOQ_TRY(write_output(report_, html_report(model_, ops, document, compiled->provenance.json)));
    }
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    document["seconds"] = seconds.count();
    if (console.json) console.document(document);
    if (!console.json && !fails && !compiled->layers.empty()) {
      console.note(torchao::print_report(compiled->layers));
    }
    if (!console.json && !fails) print_summary(console, ops, document);
    return fails ? strict_failure(missed) : Status();
  }

 private:
  Status check_flags() const {
    if (target_ == "cuda")
      return error(ErrorId::not_built, "--target cuda is not built yet; leave it out to compile for the CPU");
    if (cpu_ != "portable") AOQ_TRY(make_backend(cpu_).status());
    AOQ_TRY(read_recipe(quantize_).status());
    AOQ_TRY(check_output(output_));
    if (!report_.empty()) AOQ_TRY(check_output(report_));
    return {};
  }

  // Kernels on this machine; none where the shapes that a plan needs cannot be guessed.
  std::vector<StepInfo> steps_of(const Graph& graph) const {
    Result<std::shared_ptr<const Model>> model = Model::from_graph(graph.clone(), to_model_options(quantize_.run));
    if (!model.ok()) return {};
    Result<Session> session = Session::create(*model);
    if (!session.ok()) return {};
    Result<PlanInfo> plan = describe_plan(*session, {});
    return plan.ok() ? std::move(plan->steps) : std::vector<StepInfo>();
  }

  static std::vector<const OpEntry*> not_as_requested(const std::vector<OpEntry>& ops) {
    std::vector<const OpEntry*> missed;
    for (const OpEntry& e : ops) {
      if (!e.requested.empty() && e.requested != e.runs && runs_in_float(e)) missed.push_back(&e);
    }
    return missed;
  }

  static Status strict_failure(const std::vector<const OpEntry*>& missed) {
    std::string list;
    bool has_slow = false;
    for (const OpEntry* e : missed) {
      has_slow = has_slow || e->reason.starts_with(kDeclined);
      list += fmt::format("\n  {} ({}): asked for {}, would run in {}: {}", e->name, e->op, e->requested, e->runs,
                          e->reason);
    }
    return error(ErrorId::strict,
                 "--strict: {} of the ops that were asked to be quantized would not run so; nothing was "
                 "written{}\n  leave them in float with --keep-float NAME, or compile without --strict{}",
                 missed.size(), list, has_slow ? "; --tuning none has in int8 what is only slower there" : "");
  }

  void print_summary(Console& console, const std::vector<OpEntry>& ops, const Json& document) const {
    std::string counts;
    for (const auto& [precision, count] : count_by_precision(ops)) {
      if (count > 0) counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, precision);
    }
    console.print(fmt::format(
        "{}: {} -> {}, ops: {}, {:.1f} s\n", output_, format_bytes(document["input_bytes"].get<std::uint64_t>()),
        format_bytes(document["output_bytes"].get<std::uint64_t>()), counts, document["seconds"].get<double>()));
    std::vector<std::vector<std::string>> rows;
    for (const Json& e : document["float_because"]) {
      rows.push_back({"  " + e["name"].get<std::string>(), e["op"].get<std::string>(), e["reason"].get<std::string>()});
    }
    if (!rows.empty()) console.print("in float:\n" + format_table(rows));
  }

  std::string model_, output_, target_ = "cpu", cpu_ = "portable", tuning_, report_;
  QuantizeFlags quantize_;
  bool strict_ = false;
};

}  // namespace

extern const CommandDef kCommand_compile;
const CommandDef kCommand_compile = {
    .name = "compile",
    .summary = "Import a model, quantize it, and write an .aoq file",
    .examples = {"compile model.onnx -o float.aoq", "compile model.onnx -o int8.aoq --calibrate data.npz --samples 200",
                 "compile model.onnx -o int8.aoq --ranges ranges.json --keep-float softmax "
                 "--cpu native --strict",
                 "compile model.onnx -o tuned.aoq --calibrate data.npz --tuning tuning.json"},
    .make = make_command<Compile>};

}  // namespace aoq::tools
