// Configurations: how a linear layer is quantized, as data, under the names of torchao's configuration classes and
// fields (pytorch-semantics D.9). In JSON:
//
//   {"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4", "weight_granularity": "PerGroup(32)"}
//   {"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}}
//
// What a type means is its handler's; programs register their own (register_handler).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attribute.h"
#include "ir/op.h"
#include "passes/torchao/quantized_weight.h"

namespace aoq::torchao {

struct Config {
  std::string type;
  Attributes fields;
  // The configuration that an algorithm works for: none or one.
  std::vector<Config> base;

  friend bool operator==(const Config& a, const Config& b);
};

enum class LayerKind : std::uint8_t { linear, embedding };

// A linear layer of a model; or an embedding, whose weight is a table [rows, K] and whose inputs are indices.
struct LinearSite {
  std::string name;              // of its module
  TensorView weight;             // [N, K] in f32, bf16 or f16
  const Tensor* bias = nullptr;  // [N]
  LayerKind kind = LayerKind::linear;
};

// What a handler learns from the inputs of a layer while calibration data run through the float model.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  // x [..., K], once per run of the model. Must not keep more than a fixed amount of memory.
  virtual Status observe(TensorView x) = 0;
};

// A layer's weight, or why the layer stays as it is.
struct Quantized {
  std::optional<QuantizedWeight> weight;
  std::string kept_because;
  // Whether it is an error where the rules name the layer, and not just a pattern or a default has chosen it.
  bool is_error_when_named = false;
};
Quantized does_not_fit(std::string reason);

struct Handler {
  std::string type;  // of the configurations it is for
  std::string doc;
  std::vector<AttributeDef> fields;  // granularities and mapping types are strings
  bool has_base = false;             // wants base_config
  // Null: needs no data.
  Result<std::unique_ptr<InputObserver>> (*observe)(const Config& config, const LinearSite& site) = nullptr;
  // `observer` is what `observe` made, null without it.
  Result<Quantized> (*quantize)(const Config& config, const LinearSite& site, InputObserver* observer) = nullptr;
};

// invalid_argument when the type is taken, or the name or a function is missing. Thread-safe; handlers stay until the
// process ends.
Status register_handler(Handler handler);
// Null when there is none. Thread-safe.
const Handler* find_handler(std::string_view type);
// In order of their names.
std::vector<const Handler*> all_handlers();

// Reads JSON and completes the fields; names and values are checked. dtypes may have torch's names or ours; torchao's
// own form {"_type", "_version", "_data"} is read too. recipe_invalid says which field is wrong and what it may be.
Result<Config> parse_config(std::string_view json);
// The JSON form on one line.
std::string print_config(const Config& config);
// Checks the names and kinds of the fields and fills in the defaults.
Result<Config> complete(Config config);

// Whether this configuration, or the one it works for, needs calibration data.
bool needs_data(const Config& config);
// Quantizes one layer. The observer comes from `observe_inputs` and has seen all the data. Scales and zero points are
// finite: invalid_data where the weight's numbers reach too far for that.
Result<std::unique_ptr<InputObserver>> observe_inputs(const Config& config, const LinearSite& site);
Result<Quantized> quantize_weight(const Config& config, const LinearSite& site, InputObserver* observer);

// Fields of handlers. invalid_argument names the field.
Result<Granularity> granularity_field(const Config& config, const char* name);
Result<MappingType> mapping_field(const Config& config, const char* name);

}  // namespace aoq::torchao
