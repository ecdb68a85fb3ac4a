// Quantizing the layers of a float graph by torchao's configurations: quantize_ with a filter, or with a configuration
// for each name (FqnToConfig, pytorch-semantics D.9).
//
// Linear layers, and embeddings where they are asked for, get narrow weights (layer_rewrite.h). The graph is traced,
// after the standard rewrites, and stays so: other parts of it may be quantized afterwards.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/executor.h"
#include "ir/graph.h"
#include "passes/quantize/calibration.h"
#include "passes/torchao/config.h"

namespace aoq::torchao {

// What stands for all embeddings in rules, as "_default" does for all linear layers.
inline constexpr std::string_view kEmbeddings = "_embedding";

// Names and what becomes of them, null for "stays in float". A layer takes, of the names that fit it: its parameter's
// name, its module's name, "re:" patterns (of the whole parameter's or module's name; the first in this order), and
// "_default" (linear layers) or "_embedding" (embeddings: a gather from a constant matrix). Of a configuration that
// quantizes inputs too, embeddings take the weight's part.
using ConfigRules = std::vector<std::pair<std::string, std::optional<Config>>>;

struct ModelOptions {
  // Only layers for which this is true; absent: all. `module` is the layer's name, `layer` a linear or a gather.
  std::function<bool(const std::string& module, const Node& layer)> filter;
  // For configurations that need data (needs_data): what runs the float graph, and over what, once.
  Executor* executor = nullptr;  // null: the reference interpreter
  CalibrationData* data = nullptr;
};

// What became of a layer.
struct LayerReport {
  std::string module;
  std::string type;           // of its configuration; empty: none was wanted
  std::string kept_because;   // why it stayed in float, else empty
  double relative_error = 0;  // of the weight: |w - quantized| / |w|, with the pre-scale undone
  double bits_per_weight = 32;
  LayerKind kind = LayerKind::linear;
  bool shares_codes = false;        // another layer reads the same codes: a tied weight
  bool float_weight_stays = false;  // something else reads the float weight, so that the file has both
};

// Errors name the layer: invalid_argument for a name that no layer has, a pattern that is none, data that are missing,
// and a layer that the rules name whose weight the configuration's groups or blocks do not divide; one that a pattern
// or default chose stays in float and the report says why. When a weight cannot be quantized the graph is as it was.
Result<std::vector<LayerReport>> quantize(Graph& graph, const ConfigRules& rules, const ModelOptions& options = {});
Result<std::vector<LayerReport>> quantize(Graph& graph, const Config& config, const ModelOptions& options = {});

// Checks the names and patterns of rules against the layers of a graph.
Status check_rules(const Graph& graph, const ConfigRules& rules);

// One line a layer, and the sums.
std::string print_report(const std::vector<LayerReport>& layers);

// Recipes by name, for the command line: "int8-weight-only", "8da4w", ...; not_found names the known ones.
Result<ConfigRules> named_rules(const std::string& name);
bool has_named_rules(const std::string& name);
std::vector<std::string> rule_names();

}  // namespace aoq::torchao
