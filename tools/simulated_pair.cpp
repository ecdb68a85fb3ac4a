#include "tools/simulated_pair.h"

namespace aoq::tools {

namespace {

// Float, with the rewrites that quantization starts from, so that both have the same ops.
Result<Graph> load_reference(const std::string& path, const RunOptions& run) {
  AOQ_ASSIGN(LoadedModel loaded, load_model(path, load_options(path, run)));
  if (loaded.graph.stage != Stage::traced) {
    return error(Code::invalid_argument, "{}: the graph is {}, expected a float model (.onnx or .aoqir) to simulate",
                 path, stage_name(loaded.graph.stage));
  }
  CompileOptions options;
  options.recipe.mode = QuantMode::none;
  options.last = Stage::traced;
  AOQ_ASSIGN(Compiled compiled, compile_graph(std::move(loaded.graph), std::move(options)));
  return std::move(compiled.graph);
}

Result<Compiled> load_quantized(const std::string& path, const QuantizeFlags& flags, const Console& console) {
  AOQ_ASSIGN(LoadedModel loaded, load_model(path, load_options(path, flags.run)));
  if (loaded.graph.stage == Stage::quantized) return Compiled{std::move(loaded.graph), {}, {}, {}};
  if (loaded.graph.stage == Stage::lowered) {
    return error(
        Code::invalid_argument,
        "{}: the graph is lowered, expected one before that: --simulate runs float models with a recipe; compare "
        "lowered ones without it",
        path);
  }
  AOQ_ASSIGN(const Recipe recipe, read_recipe(flags));
  if (recipe.mode == QuantMode::none) {
    return error(
        Code::invalid_argument,
        "--simulate needs what to simulate: --quantize MODE or --recipe FILE.json, static ones with --calibrate "
        "DATA or --ranges FILE.json");
  }
  CompileOptions options;
  options.last = Stage::quantized;
  return compile_with_flags(std::move(loaded.graph), flags, std::move(options), console);
}

}  // namespace

Result<SimulatedPair> simulated_pair(const std::string& reference, const std::string& model, const QuantizeFlags& flags,
                                     const Console& console) {
  AOQ_ASSIGN(const Graph real, load_reference(reference, flags.run));
  AOQ_ASSIGN(Compiled quantized, load_quantized(model, flags, console));
  auto executor = std::make_unique<GraphExecutor>(to_model_options(flags.run));
  std::vector<std::string> names = real.output_node()->attributes().get<std::vector<std::string>>("names");
  if (names != quantized.graph.output_node()->attributes().get<std::vector<std::string>>("names")) {
    return error(Code::invalid_data, "{} and {} have different outputs, expected the same model", reference, model);
  }
  AOQ_ASSIGN(Simulation simulation, Simulation::make(real, quantized.graph, *executor));
  return SimulatedPair{std::move(executor), input_ports(real), std::move(names), std::move(quantized.warnings),
                       std::move(simulation)};
}

}  // namespace aoq::tools
