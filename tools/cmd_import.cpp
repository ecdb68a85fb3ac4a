// aoq import: a model as IR text, at any stage of compilation.
#include <fmt/format.h>

#include "tools/model_file.h"
#include "tools/output_file.h"
#include "tools/quantize_flags.h"

namespace aoq::tools {

namespace {

class Import : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .onnx, .aoqir or .aoq");
    flags.text("-o,--output", "OUT.aoqir", output_, "IR text; larger constants go to a .safetensors beside it",
               Flags::Need::required);
    flags.choice("--stage", stage_, {"traced", "prepared", "quantized", "lowered"}, "How far to compile it");
    quantize_.declare(flags);
  }

  Status run(Console& console) override {
    AOQ_TRY(check_output(output_));
    AOQ_ASSIGN(LoadedModel loaded, load_model(model_, {.bind = quantize_.run.bind}));
    std::optional<Stage> stage = stage_from_name(stage_);
    AOQ_CHECK(stage.has_value());
    if (loaded.form == ModelForm::aoq) {
      AOQ_ASSIGN(std::shared_ptr<const Backend> backend, make_backend("native"));
      AOQ_TRY(unpack_constants(loaded.graph, *backend));
    } else if (*stage != Stage::traced) {
      AOQ_ASSIGN(loaded.graph, compile(std::move(loaded.graph), *stage, console));
    }
    AOQ_TRY(write_text_model(loaded.graph, output_));
    std::int64_t nodes = static_cast<std::int64_t>(loaded.graph.node_count());
    const char* reached = stage_name(loaded.graph.stage);
    if (console.json) {
      console.document({{"stage", reached}, {"nodes", nodes}, {"output", output_}});
    } else {
      console.print(fmt::format("{}: {} nodes, {}\n", output_, nodes, reached));
    }
    return {};
  }

 private:
  Result<Graph> compile(Graph graph, Stage stage, Console& console) {
    CompileOptions options;
    options.last = stage;
    // Observers are placed before any data is seen.
    if (stage == Stage::prepared) {
      AOQ_ASSIGN(options.recipe, recipe_without_data());
      AOQ_ASSIGN(Compiled compiled, compile_graph(std::move(graph), std::move(options)));
      return std::move(compiled.graph);
    }
    AOQ_ASSIGN(Compiled compiled, compile_with_flags(std::move(graph), quantize_, std::move(options), console));
    return std::move(compiled.graph);
  }

  Result<Recipe> recipe_without_data() const {
    QuantizeFlags flags = quantize_;
    const bool needs_data = flags.quantize.empty() || flags.quantize == "static";
    if (needs_data && flags.calibrate.empty() && flags.ranges.empty()) flags.calibrate.assign(1, '-');
    return read_recipe(flags);
  }

  std::string model_, output_, stage_ = "traced";
  QuantizeFlags quantize_;
};

}  // namespace

extern const CommandDef kCommand_import;
const CommandDef kCommand_import = {
    .name = "import",
    .summary = "Write the IR of a model at a stage as text",
    .examples = {"import model.onnx -o model.aoqir",
                 "import model.onnx -o int8.aoqir --stage quantized --calibrate data.npz"},
    .make = make_command<Import>};

}  // namespace aoq::tools
