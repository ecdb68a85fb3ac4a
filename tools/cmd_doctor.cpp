// aoq doctor: what this machine and this build can do.
#include <fmt/format.h>

#include "tools/command.h"
#include "tools/machine.h"
#include "tools/model_file.h"

namespace aoq::tools {

namespace {

Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

// What models given to the command line may ask for (ir/file_limits.h).
Json limits_json() {
  const Limits l = tool_limits();
  return {
      {"metadata_bytes", l.metadata_bytes}, {"nodes", l.nodes}, {"tensors", l.tensors}, {"segments", l.segments},
      {"name_bytes", l.name_bytes},         {"rank", l.rank},   {"depth", l.depth},     {"graph_bytes", l.graph_bytes},
      {"inflated_bytes", l.inflated_bytes}};
}

std::string limits_text() {
  const Limits l = tool_limits();
  return fmt::format("{} of metadata, {} nodes, {} tensors, rank {}, depth {}, names of {} bytes, {} for a graph",
                     format_bytes(l.metadata_bytes), l.nodes, l.tensors, l.rank, l.depth, l.name_bytes,
                     format_bytes(l.graph_bytes));
}

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
                        {"threads", m.threads},
                        {"limits", limits_json()}});
      return {};
    }
    console.print(format_table({{"kernel class", m.isa},
                                {"cpu features", fmt::format("{}", fmt::join(m.features, " "))},
                                {"oneDNN", dnnl.empty() ? "not built in" : dnnl},
                                {"cuda", m.cuda.empty() ? "not built in" : m.cuda},
                                {"threads", std::to_string(m.threads)},
                                {"limits of files", limits_text()}}));
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
