// aoq doctor: what this machine and this build can do.
#include <fmt/format.h>

#include "tools/command.h"
#include "tools/machine.h"

namespace aoq::tools {

namespace {

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

class Doctor : public Command {
 public:
  void declare(Flags&) override {}

  Status run(Console& console) override {
    MachineInfo m = machine_info();
    std::string dnnl = onednn();
    if (console.json) {
      console.document({{"isa", m.isa},
                        {"features", m.features},
                        {"onednn", text_or_null(dnnl)},
                        {"cuda", text_or_null(m.cuda)},
                        {"threads", m.threads}});
      return {};
    }
    console.print(format_table({{"kernel class", m.isa},
                                {"cpu features", fmt::format("{}", fmt::join(m.features, " "))},
                                {"oneDNN", dnnl.empty() ? "not built in" : dnnl},
                                {"cuda", m.cuda.empty() ? "not built in" : m.cuda},
                                {"threads", std::to_string(m.threads)}}));
    return {};
  }
};

}  // namespace

extern const CommandDef kCommand_doctor;
const CommandDef kCommand_doctor = {.name = "doctor",
                                    .summary = "Show CPU features, kernel class, libraries, devices and threads",
                                    .examples = {"doctor", "doctor --json"},
                                    .make = make_command<Doctor>};

}  // namespace aoq::tools
