// Backend configurations: which patterns of modules and functions a backend runs on codes, and with which types; data
// that can be read and written as JSON (pytorch-semantics B.4).
//
//   {"name": "fbgemm", "patterns": [
//     {"pattern": [["Conv2d", "conv"], ["ReLU", "F.relu", "relu"]], "fused_module": "ConvReLU2d",
//      "observation": "different", "dtypes": [{"input": {"dtype": "u8"}, "output": {"dtype": "u8"}, "weight": {"dtype":
//      "i8"}}]}
//   ]}
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json/json.h"
#include "ir/dtype.h"
#include "passes/quantize/recipe.h"

namespace aoq::fx {

enum class Observation : std::uint8_t {
  different,     // the output has an observer of its own
  shared,        // the output shares the first input's observer
  not_observed,  // neither is observed
  by_tensors,    // arithmetic: different for two tensors, shared for a tensor and a number
};

// What a backend demands of an activation or weight. Absent members demand nothing.
struct DTypeConstraint {
  std::optional<DType> dtype;  // none: float
  std::optional<std::int64_t> quant_min_lower_bound, quant_max_upper_bound;
  std::optional<double> scale_min_lower_bound;  // read through eps
  std::optional<double> scale_exact_match;
  std::optional<std::int64_t> zero_point_exact_match;
  bool operator==(const DTypeConstraint&) const = default;
};

struct DTypeConfig {
  DTypeConstraint input, output, weight;
  bool is_dynamic = false;
  bool operator==(const DTypeConfig&) const = default;
};

struct BackendPattern {
  // In the order of the computation; each entry lists names that match (Unit::keys).
  std::vector<std::vector<std::string>> pattern;
  Observation observation = Observation::different;
  std::vector<DTypeConfig> dtypes;
  // Not empty: prepare fuses the pattern into one module of this type before anything else.
  std::string fused_module;
  bool operator==(const BackendPattern&) const = default;
};

struct BackendConfig {
  std::string name;
  std::vector<BackendPattern> patterns;
  bool operator==(const BackendConfig&) const = default;
};

// "native", "fbgemm", "x86", "qnnpack" or "onednn"; not_found with the known names otherwise.
Result<BackendConfig> backend_config(std::string_view name);
std::vector<std::string> backend_names();

Json backend_config_to_json(const BackendConfig& config);
Result<BackendConfig> backend_config_from_json(const Json& json);

// What each run brings decides: integers from a placeholder, or half precision.
bool is_dynamic_qconfig(const QConfig& qconfig);

// Whether a qconfig fits one of the pattern's type configurations; else what does not, for messages.
Status supports(const BackendPattern& pattern, const QConfig& qconfig, bool has_weight);

// get_default_qconfig_mapping(name) as a recipe of the FX workflow (pytorch-semantics B.1), and the QAT one.
Result<Recipe> fx_recipe(std::string_view backend);
Result<Recipe> fx_qat_recipe(std::string_view backend);
// The named qconfigs of B.1: "default_qconfig", "fbgemm", "default_dynamic_qconfig", ...
Result<QConfig> named_qconfig(std::string_view name);
std::vector<std::string> qconfig_names();

}  // namespace aoq::fx
