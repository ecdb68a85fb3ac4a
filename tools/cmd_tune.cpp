// aoq tune: will measure float against int8 per region on this machine.
#include "ir/error_id.h"
#include "tools/command.h"

namespace aoq::tools {

namespace {

class Tune : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .onnx or .aoqir");
    flags.text("--recipe", "FILE.json", recipe_, "What to quantize, and how");
    flags.text("-o,--output", "TUNING.json", output_, "The file to write", Flags::Need::required);
  }
  Status run(Console&) override {
    return error(ErrorId::not_built,
                 "tuning is not built yet; compile without --tuning, and measure with aoq bench --against");
  }

 private:
  std::string model_, recipe_, output_;
};

}  // namespace

extern const CommandDef kCommand_tune;
const CommandDef kCommand_tune = {
    .name = "tune",
    .summary = "Measure kernels on this machine (not built yet)",
    .examples = {"tune model.onnx -o tuning.json", "tune model.onnx --recipe recipe.json -o tuning.json"},
    .make = make_command<Tune>};

}  // namespace aoq::tools
