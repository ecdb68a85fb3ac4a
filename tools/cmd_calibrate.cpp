// aoq calibrate: observers over data, to a ranges file.
#include <fmt/format.h>

#include "tools/model_file.h"
#include "tools/output_file.h"
#include "tools/quantize_flags.h"

namespace aoq::tools {

namespace {

class Calibrate : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .onnx or .aoqir", Flags::Need::optional);
    flags.text("-o,--output", "RANGES.json", output_, "The file to write", Flags::Need::required);
    tools::declare(flags, data_, Flags::Need::optional);
    flags.text("--recipe", "FILE.json", recipe_, "What to quantize, and how (default: the built-in recipe)");
    flags.list("--keep-float", "NAME_OR_TYPE", keep_float_, "A node, module or type to leave in float; repeatable");
    flags.list("--merge", "RANGES.json", merge_, "Join ranges files, in this order, in place of running a model",
               Flags::Values::several);
    tools::declare(flags, run_);
  }

  Status run(Console& console) override {
    bool merges = !merge_.empty();
    if (merges == !model_.empty() || merges == !data_.input.empty()) {
      return error(Code::invalid_argument,
                   "expected MODEL with --input DATA, or --merge A.json B.json\n  try: aoq calibrate "
                   "--help");
    }
    AOQ_TRY(check_output(output_));
    AOQ_ASSIGN(Ranges ranges, merges ? read_ranges(merge_) : observe(console));
    AOQ_TRY(write_output(output_, ranges.to_json()));
    if (console.json) {
      console.document({{"samples", ranges.samples}, {"observers", ranges.observers.size()}, {"output", output_}});
    } else {
      console.print(fmt::format("{}: {} observers, {} samples\n", output_, ranges.observers.size(), ranges.samples));
    }
    return {};
  }

 private:
  Result<Ranges> observe(Console& console) {
    AOQ_ASSIGN(LoadedModel loaded, load_model(model_, {.bind = run_.bind}));
    if (loaded.graph.stage == Stage::quantized || loaded.graph.stage == Stage::lowered) {
      return error(Code::invalid_model, "{}: the graph is {} already, expected a float model", model_,
                   stage_name(loaded.graph.stage));
    }
    QuantizeFlags flags;
    flags.quantize = "static";
    flags.calibrate = data_.input;
    flags.recipe = recipe_;
    flags.keep_float = keep_float_;
    flags.data = data_;
    flags.run = run_;
    CompileOptions options;
    options.last = Stage::quantized;
    // Ranges are all that is wanted; some observers, as recording, have no scale.
    options.passes.skip = {"convert"};
    AOQ_ASSIGN(Compiled compiled, compile_with_flags(std::move(loaded.graph), flags, std::move(options), console));
    for (const std::string& warning : compiled.warnings) console.note("warning: " + warning);
    return std::move(compiled.ranges);
  }

  std::string model_, output_, recipe_;
  std::vector<std::string> merge_, keep_float_;
  DataOptions data_;
  RunOptions run_;
};

}  // namespace

extern const CommandDef kCommand_calibrate;
const CommandDef kCommand_calibrate = {.name = "calibrate",
                                       .summary = "Run observers over data and write a ranges file",
                                       .examples = {"calibrate model.onnx --input data.npz -o ranges.json",
                                                    "calibrate --merge monday.json tuesday.json -o ranges.json"},
                                       .make = make_command<Calibrate>};

}  // namespace aoq::tools
