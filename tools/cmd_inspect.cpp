// aoq inspect: what is in a model and how it would run here.
#include <fmt/format.h>

#include "passes/quantize/equalize.h"
#include "tools/op_list.h"
#include "tools/runner.h"

namespace aoq::tools {

namespace {

Json told_metadata(const Graph& graph) {
  Json told = Json::object();
  for (const auto& [key, value] : graph.metadata) {
    if (!holds_channel_factors(key)) told[key] = value;
  }
  return told;
}

Json ports_to_json(const std::vector<Port>& ports) {
  Json list = Json::array();
  for (const Port& port : ports) {
    Json shape = Json::array();
    for (const Dim& d : port.type.shape) shape.push_back(d.is_constant() ? Json(d.constant()) : Json(d.to_string()));
    list.push_back({{"name", port.name}, {"dtype", std::string(dtype_name(port.type.dtype))}, {"shape", shape}});
  }
  return list;
}

Json ops_to_json(const std::vector<OpEntry>& ops) {
  Json list = Json::array();
  for (const OpEntry& e : ops) {
    Json refused = Json::array();
    for (const Refusal& r : e.refused) refused.push_back({{"row", r.row}, {"reason", r.reason}});
    list.push_back({{"name", e.name},
                    {"op", e.op},
                    {"requested", e.requested},
                    {"runs", e.runs},
                    {"reason", e.reason},
                    {"kernel", e.kernel},
                    {"inexact", e.inexact},
                    {"slices", e.slices},
                    {"refused", refused}});
  }
  return list;
}

// "conv_f32 x 8 (inexact)"
std::string kernel_text(const OpEntry& e) {
  if (e.kernel.empty()) return "-";
  return e.kernel + (e.slices > 1 ? fmt::format(" x {}", e.slices) : "") + (e.inexact ? " (inexact)" : "");
}

std::string ports_text(const char* title, const std::vector<Port>& ports) {
  std::string text;
  for (const Port& port : ports) text += fmt::format("{:<8} {}: {}\n", title, port.name, to_string(port.type));
  return text;
}

class Inspect : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .aoq, .onnx or .aoqir");
    flags.list("--shape", "NAME=1x3x224x224", shapes_, "The shape of an input, where it is symbolic; repeatable");
    tools::declare(flags, run_);
    declare_batch_loops(flags, run_);
  }

  Status run(Console& console) override {
    AOQ_ASSIGN(OpenModel opened, open_model(model_, run_));
    Result<PlanInfo> plan = describe_plan(opened.session, {.given = shapes_});
    if (!plan.ok() && (!shapes_.empty() || plan.status().code() != Code::invalid_data)) return std::move(plan).status();
    if (!plan.ok()) {
      console.note(fmt::format("aoq inspect: no plan at the shapes tried ({}); give them with --shape",
                               plan.status().message()));
    }
    std::vector<OpEntry> ops = list_ops(opened.graph(), plan.ok() ? plan->steps : std::vector<StepInfo>());
    std::uint64_t arena = plan.ok() ? plan->memory.arena_bytes : 0;
    if (console.json) return print_json(console, opened, ops, arena);
    print_text(console, opened, ops, arena);
    return {};
  }

 private:
  static Status print_json(Console& console, const OpenModel& opened, const std::vector<OpEntry>& ops,
                           std::uint64_t arena) {
    const Model& model = opened.model();
    Json provenance = Json::object();
    if (!opened.provenance.empty()) {
      AOQ_ASSIGN(provenance, parse_json(opened.provenance));
    }
    console.document({{"format_version", opened.format_version},
                      {"inputs", ports_to_json(model.inputs())},
                      {"outputs", ports_to_json(model.outputs())},
                      {"ops", ops_to_json(ops)},
                      {"weights_bytes", model.weights_bytes()},
                      {"packed_bytes", model.packed_bytes()},
                      {"repacked", model.repacked()},
                      {"arena_bytes", arena},
                      {"metadata", told_metadata(model.graph())},
                      {"provenance", provenance}});
    return {};
  }

  static void print_text(Console& console, const OpenModel& opened, const std::vector<OpEntry>& ops,
                         std::uint64_t arena) {
    const Model& model = opened.model();
    std::string text = ports_text("input", model.inputs()) + ports_text("output", model.outputs());
    text += fmt::format("{:<8} {}, arena {}, file {}\n", "weights", format_bytes(model.weights_bytes()),
                        format_bytes(arena), format_bytes(opened.file_bytes));
    std::string counts;
    for (const auto& [precision, count] : count_by_precision(ops)) {
      if (count > 0) counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, precision);
    }
    text += fmt::format("{:<8} {}\n\n", "ops", counts.empty() ? "none" : counts);
    std::vector<std::vector<std::string>> rows{{"name", "op", "asked for", "runs in", "kernel", "why"}};
    for (const OpEntry& e : ops) {
      rows.push_back({e.name, e.op, e.requested.empty() ? "-" : e.requested, e.runs, kernel_text(e), e.reason});
    }
    console.print(text + format_table(rows));
  }

  std::string model_;
  std::vector<std::string> shapes_;
  RunOptions run_;
};

}  // namespace

extern const CommandDef kCommand_inspect;
const CommandDef kCommand_inspect = {
    .name = "inspect",
    .summary = "List inputs, outputs and every op with its precision and kernel",
    .examples = {"inspect int8.aoq", "inspect model.onnx --shape x=1x3x224x224 --json"},
    .make = make_command<Inspect>};

}  // namespace aoq::tools
