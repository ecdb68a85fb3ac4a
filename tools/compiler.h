// The compiler: a float graph to one that is ready to be written as `.aoq`, for the `aoq` tool, tests and programs that
// embed it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "formats/aoq/aoq.h"
#include "formats/json/json.h"
#include "passes/pipeline.h"
#include "passes/quantize/calibration.h"
#include "passes/torchao/quantize_model.h"
#include "tools/machine.h"

namespace aoq::tools {

struct CompileOptions {
  Recipe recipe;                    // recipe.mode says whether and how
  CalibrationData* data = nullptr;  // borrowed
  Ranges ranges;                    // from earlier runs; calibration adds to them
  Stage last = Stage::lowered;
  std::string cpu_class = "portable";
  RunSettings run;          // of calibration
  std::string source_hash;  // for provenance
  PassRunOptions passes;
  // Called before anything is quantized, with what is known of ranges; may decline() nodes of the traced graph.
  std::function<Status(Graph&, Ranges&)> place = nullptr;
  std::map<std::string, std::string> rows;  // kernel rows to try first, by kernel_choice_key (runtime/kernel_choice.h)
  Json tuning;                              // for provenance; null: nothing to tell
};

struct Compiled {
  Graph graph;
  AoqProvenance provenance;
  Ranges ranges;                             // what the quantized graph was made from
  std::vector<std::string> warnings;         // what may be a mistake in the recipe
  std::vector<torchao::LayerReport> layers;  // what became of linear layers that the recipe's "configs" name
};

// A pure function of its arguments. Errors name the pass and the node.
Result<Compiled> compile_graph(Graph graph, CompileOptions options);

// "none", "static", "dynamic" or "weight-only", as --quantize has it.
const char* mode_name(QuantMode mode);

// The layers as JSON: [{"module", "config", "bits_per_weight", "relative_error"} or {"module", "config" where there was
// one, "kept_because"}].
Json layers_json(const std::vector<torchao::LayerReport>& layers);

// Puts constants into the layouts that the backend's kernels want. The graph must be lowered.
Status pack_constants(Graph& graph, const Backend& backend);
// The opposite: every packed constant becomes a plain one.
Status unpack_constants(Graph& graph, const Backend& backend);

}  // namespace aoq::tools
