// Recipe: what the user wants quantized, and how. Data, read from JSON or built in.
//
//   {
//     "name": "default", "mode": "static",
//     "global": {"activation": {...observer...}, "weight": {...observer...}},
//     "object_type": [["softmax", null], ["Linear", {...}]],
//     "module_name_regex": [["encoder\\.layer\\.[0-9]+\\.attention.*", null]],
//     "module_name": [["classifier", null]],
//     "keep_float": ["head", "conv_transpose"],
//     "bias_correction": true,
//     "equalization": true
//   }
//
// A qconfig is null for "leave in float". Precedence is FX's, lowest to highest: global, object_type, module_name_regex
// (anchored at the start, the first that matches), module_name (the nearest ancestor) (pytorch-semantics B.2).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/graph.h"
#include "passes/quantize/observer.h"

namespace aoq {

enum class QuantMode : std::uint8_t { none, static_quantization, dynamic_quantization, weight_only };

struct QConfig {
  ObserverSpec activation;  // kind "placeholder" with an integer dtype: quantized by what each run brings
  ObserverSpec weight;
};
bool is_dynamic(const ObserverSpec& activation);

using QConfigRule = std::pair<std::string, std::optional<QConfig>>;

struct Recipe {
  std::string name = "default";
  QuantMode mode = QuantMode::static_quantization;
  std::optional<QConfig> global;
  std::vector<QConfigRule> object_type;  // an op's name or a module's class
  std::vector<QConfigRule> module_name_regex;
  std::vector<QConfigRule> module_name;
  // Names (of nodes or modules) and types left in float, above every other rule.
  std::vector<std::string> keep_float;
  // Corrects the mean error that weight rounding leaves in each output channel (Nagel et al. 2019, section 4.2), from
  // the channel means of the calibration data.
  bool bias_correction = true;
  // Makes the channels of activations between weighted ops equally large (passes/quantize/equalize.h).
  bool equalization = true;
};

// Our own recipe: per-channel symmetric int8 weights, per-tensor affine u8 activations from histograms.
Recipe default_recipe();
// The same weights for linear ops; their activations are quantized while the model runs. Needs no data.
Recipe default_dynamic_recipe();
// i8 weights per channel for conv and linear, u8 rows for embeddings; activations stay in float. Needs no data.
Recipe default_weight_only_recipe();
// JSON on one line, as the `spec` attribute of an observe node has it.
std::string print_observer_spec(const ObserverSpec& spec);
Result<ObserverSpec> parse_observer_spec(std::string_view text);
Result<Recipe> parse_recipe(std::string_view json);
std::string print_recipe(const Recipe& recipe);

struct QConfigMatch {
  const QConfig* qconfig = nullptr;  // null: leave in float
  std::string because;               // which rule said so: for reports
};
QConfigMatch match_qconfig(const Recipe& recipe, const Node& node);

}  // namespace aoq
