// aoq verify: everything the loader checks, and the segment hashes.
#include <fmt/format.h>

#include "formats/aoq/aoq.h"
#include "tools/command.h"
#include "tools/model_file.h"

namespace aoq::tools {

namespace {

class Verify : public Command {
 public:
  void declare(Flags& flags) override { flags.positional("FILE", path_, "An .aoq file"); }

  Status run(Console& console) override {
    AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(path_));
    Status status = verify_aoq(file->bytes(), tool_limits());
    if (!status.ok()) return std::move(status).with_context(path_);
    if (!console.json) return {};
    AOQ_ASSIGN(AoqSummary summary, read_aoq_summary(file->bytes(), tool_limits()));
    console.document({{"ok", true},
                      {"format_version", summary.version},
                      {"segments", summary.segments.size()},
                      {"bytes", file->bytes().size()}});
    return {};
  }

 private:
  std::string path_;
};

}  // namespace

extern const CommandDef kCommand_verify;
const CommandDef kCommand_verify = {.name = "verify",
                                    .summary = "Check an .aoq file; silent when it is fine",
                                    .examples = {"verify int8.aoq", "verify int8.aoq --json"},
                                    .make = make_command<Verify>};

}  // namespace aoq::tools
