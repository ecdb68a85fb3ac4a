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
// A qconfig may have a third observer, "inner", for the values inside recurrent ops.
//
// The FX workflow adds "backend" ("x86", or a whole configuration), "module_name_object_type_order" ([["block",
// "Linear", 0, qconfig]]), "qat", "non_traceable_module_name", "non_traceable_module_class", "custom_modules",
// "quantized_inputs", "quantized_outputs", "preserved_attributes", "standalone_module_name" and
// "standalone_module_class" ([["block", recipe]]). A qconfig may also be the name of one of PyTorch's
// ("default_dynamic_qconfig").
//
// "configs" quantizes linear layers by torchao's configurations (passes/torchao/quantize_model.h), before anything
// else:
// [["re:layers\\..*", {"type": "Int4WeightOnlyConfig"}], ["head", null], ["_default", {...}]], or an object where the
// order does not matter.
//
// A qconfig is null for "leave in float". Precedence is FX's, lowest to highest: global, object_type, module_name_regex
// (anchored at the start, the first that matches), module_name (the nearest ancestor), module_name_object_type_order
// (pytorch-semantics B.2).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/graph.h"
#include "passes/quantize/observer.h"
#include "passes/torchao/config.h"

namespace aoq {

enum class QuantMode : std::uint8_t { none, static_quantization, dynamic_quantization, weight_only };

struct QConfig {
  ObserverSpec activation;  // kind "placeholder" with an integer dtype: quantized by what each run brings
  ObserverSpec weight;
  // Of the values inside statically quantized lstm and gru ops (static_recurrent.h): u8 codes, or kind "placeholder"
  // for floats. Absent: floats, in the FX workflow the activation's.
  std::optional<ObserverSpec> inner = std::nullopt;
};
bool is_dynamic(const ObserverSpec& activation);

using QConfigRule = std::pair<std::string, std::optional<QConfig>>;

// The index-th node of a type (counted from 0, in the order of the graph) among those that a module owns.
struct OrderRule {
  std::string module;
  std::string object_type;
  std::int64_t index = 0;
  std::optional<QConfig> qconfig;
};

// A custom module's forms, each a registered region class (ir/region.h, passes/fx/custom_module.h).
struct CustomModule {
  QuantMode mode = QuantMode::static_quantization;
  std::string float_class, observed_class, quantized_class;
};

// FX's PrepareCustomConfig and ConvertCustomConfig.
struct CustomConfig {
  std::vector<std::string> non_traceable_module_name, non_traceable_module_class;
  std::vector<CustomModule> custom_modules;
  // Inputs that come as codes, with their scale and zero point, and results that leave as codes. In a standalone
  // module's recipe they are the module's, and the scale is that of what it is given: it says 0.
  struct QuantizedInput {
    std::int64_t index = 0;
    double scale = 0;
    std::int64_t zero_point = 0;
  };
  std::vector<QuantizedInput> quantized_inputs;
  std::vector<std::int64_t> quantized_outputs;
  // Keys of the graph's metadata that must be there and stay.
  std::vector<std::string> preserved_attributes;
  // Modules that are quantized as models of their own (passes/fx/standalone.h): name or class, and a recipe as JSON;
  // empty: by the qconfig that the module has here.
  std::vector<std::pair<std::string, std::string>> standalone_module_name, standalone_module_class;

  bool is_empty() const;
};

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

  // Configurations of linear layers, by name; null: left to the rest of the recipe.
  std::vector<std::pair<std::string, std::optional<torchao::Config>>> configs;

  // Not empty: the FX workflow (passes/fx/workflow.h) with this backend configuration: a name, or JSON text.
  std::string backend;
  // Of the FX workflow: fake quantization in training (prepare_qat_fx).
  bool qat = false;
  std::vector<OrderRule> module_name_object_type_order;
  CustomConfig custom;
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

// Whether an entry of keep_float names the node.
bool is_kept_float(const Recipe& recipe, const Node& node);

struct QConfigMatch {
  const QConfig* qconfig = nullptr;  // null: leave in float
  std::string because;               // which rule said so: for reports
};
QConfigMatch match_qconfig(const Recipe& recipe, const Node& node);
// As if the node's module had this path.
QConfigMatch match_qconfig(const Recipe& recipe, const Node& node, const std::string& path);

}  // namespace aoq
