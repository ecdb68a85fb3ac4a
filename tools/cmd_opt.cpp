// aoq opt: IR in, passes, IR out.
#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/text.h"
#include "passes/pipeline.h"
#include "runtime/graph_executor.h"
#include "tools/compiler.h"
#include "tools/model_file.h"
#include "tools/output_file.h"
#include "tools/quantize_flags.h"
#include "tools/suggest.h"

namespace aoq::tools {

namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  std::size_t begin = 0;
  while (begin <= list.size()) {
    std::size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) items.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

class Opt : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "IR text (.aoqir) or any other model", Flags::Need::optional);
    flags.text("--passes", "A,B,C", passes_,
               "Passes, in this order; \"standard\" and \"lowered\" stand for those of compile");
    flags.text("-o,--output", "OUT.aoqir", output_, "The file to write (default: print the text)");
    flags.flag("--list", list_, "Name the passes and stop");
    flags.text("--print-after", "A,B", print_after_,
               "Print the graph on stderr after these passes (\"all\": every one)");
    flags.text("--skip", "A,B", skip_, "Passes to leave out");
    flags.integer("--stop-after", "N", stop_after_, 0, "Run only the first N passes");
    flags.text("--recipe", "FILE.json", quantize_.recipe, "For prepare and convert");
    flags.list("--ranges", "FILE.json", quantize_.ranges, "For convert");
    flags.text("--calibrate", "DATA", quantize_.calibrate, "For calibrate");
    flags.integer("--threads", "N", quantize_.run.threads, 1, "Threads for calibrate");
  }

  Status run(Console& console) override {
    if (list_) return list_passes(console);
    if (model_.empty() || passes_.empty()) {
      return error(Code::invalid_argument, "expected MODEL and --passes A,B,C, or --list\n  try: aoq opt --help");
    }
    AOQ_ASSIGN(std::vector<std::string> names, names_of(passes_));
    AOQ_TRY(names_of(skip_).status());
    if (print_after_ != "all") AOQ_TRY(names_of(print_after_).status());
    if (!output_.empty()) AOQ_TRY(check_output(output_));
    AOQ_ASSIGN(LoadedModel loaded, load_model(model_));
    AOQ_TRY(run_named(loaded.graph, names, console));
    std::string text = output_.empty() ? print_text(loaded.graph).text : std::string();
    if (!output_.empty()) AOQ_TRY(write_text_model(loaded.graph, output_));
    if (console.json) {
      Json document{{"passes", ran_}, {"stage", stage_name(loaded.graph.stage)}, {"nodes", loaded.graph.node_count()}};
      if (output_.empty()) document["text"] = text;
      console.document(document);
    } else {
      console.print(text);
    }
    return {};
  }

 private:
  static Result<std::vector<std::string>> names_of(const std::string& list) {
    std::vector<std::string> names, known{"standard", "lowered"};
    for (const PassDef* pass : all_passes()) known.emplace_back(pass->name);
    for (const std::string& name : split(list)) {
      if (name == "standard" || name == "lowered") {
        std::span<const std::string> group = name == "standard" ? standard_rewrites() : lowered_rewrites();
        names.insert(names.end(), group.begin(), group.end());
      } else if (find_pass(name) == nullptr) {
        return error(ErrorId::unknown_pass, "no pass is named \"{}\"{}\n  try: aoq opt --list", name,
                     did_you_mean(name, known));
      } else {
        names.push_back(name);
      }
    }
    return names;
  }

  static Status list_passes(Console& console) {
    Json document = Json::array();
    std::vector<std::vector<std::string>> rows;
    for (const PassDef* pass : all_passes()) {
      const char* kind = pass->kind == PassKind::stage ? "stage" : "rewrite";
      document.push_back({{"name", pass->name}, {"kind", kind}, {"summary", pass->summary}});
      rows.push_back({pass->name, kind, pass->summary});
    }
    if (console.json) {
      console.document(document);
    } else {
      console.print(format_table(rows));
    }
    return {};
  }

  PassRunOptions run_options() {
    PassRunOptions options;
    options.skip = split(skip_);
    options.print_after = split(print_after_);
    options.stop_after = static_cast<int>(stop_after_);
    options.after_each = [this](const PassDef& pass, const Graph&, bool changed, double seconds) {
      ran_.push_back({{"name", pass.name}, {"changed", changed}, {"seconds", seconds}});
    };
    options.print = [](const PassDef& pass, const Graph& graph) {
      fmt::print(stderr, "// after {}\n{}", pass.name, print_text(graph).text);
    };
    return options;
  }

  Status run_named(Graph& graph, const std::vector<std::string>& names, Console& console) {
    Recipe recipe = default_recipe();
    if (!quantize_.recipe.empty()) {
      QuantizeFlags only_recipe;
      only_recipe.recipe = quantize_.recipe;
      only_recipe.calibrate = "-";
      AOQ_ASSIGN(recipe, read_recipe(only_recipe));
    }
    AOQ_ASSIGN(Ranges ranges, read_ranges(quantize_.ranges));
    GraphExecutor executor(to_model_options(quantize_.run));
    std::unique_ptr<TargetInfo> target = make_target();
    PassContext context;
    context.target = target.get();
    context.recipe = &recipe;
    context.executor = &executor;
    context.ranges = &ranges;
    std::optional<DataSet> data;
    std::optional<CalibrationStream> stream;
    if (!quantize_.calibrate.empty()) {
      DataOptions wanted;
      wanted.input = quantize_.calibrate;
      AOQ_ASSIGN(data, DataSet::open(input_ports(graph), wanted));
      context.data = &stream.emplace(*data, console);
    }
    return run_passes(graph, names, context, run_options()).status();
  }

  std::string model_, passes_, output_, print_after_, skip_;
  std::int64_t stop_after_ = -1;
  bool list_ = false;
  QuantizeFlags quantize_;
  Json ran_ = Json::array();
};

}  // namespace

extern const CommandDef kCommand_opt;
const CommandDef kCommand_opt = {
    .name = "opt",
    .summary = "Run passes over IR text",
    .examples = {"opt model.aoqir --passes fold-constants,dce",
                 "opt model.aoqir --passes standard --print-after all -o out.aoqir", "opt --list"},
    .make = make_command<Opt>};

}  // namespace aoq::tools
