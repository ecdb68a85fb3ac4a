// PyTorch's named qconfigs and default mappings as data (pytorch-semantics B.1).
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "passes/fx/backend_config.h"

namespace aoq::fx {

namespace {

enum class Reduce : std::uint8_t { no, yes };

ObserverSpec activation(const char* kind, Reduce reduce = Reduce::no) {
  ObserverSpec spec;
  spec.kind = kind;
  spec.dtype = DType::u8;
  spec.reduce_range = reduce == Reduce::yes;
  return spec;
}

ObserverSpec ranged(ObserverSpec spec, std::int64_t min, std::int64_t max) {
  spec.quant_min = min;
  spec.quant_max = max;
  return spec;
}

ObserverSpec tensor_weight() {
  ObserverSpec spec;
  spec.dtype = DType::i8;
  spec.qscheme = QScheme::per_tensor_symmetric;
  return spec;
}

ObserverSpec channel_weight() {
  ObserverSpec spec = tensor_weight();
  spec.kind = "per_channel_min_max";
  spec.qscheme = QScheme::per_channel_symmetric;
  return spec;
}

ObserverSpec placeholder(DType dtype) {
  ObserverSpec spec;
  spec.kind = "placeholder";
  spec.dtype = dtype;
  return spec;
}

ObserverSpec fixed(double scale, std::int64_t zero_point) {
  ObserverSpec spec = ranged(activation("fixed_qparams"), 0, 255);
  spec.scale = scale;
  spec.zero_point = zero_point;
  return spec;
}

ObserverSpec embedding_weight(DType dtype) {
  ObserverSpec spec;
  spec.kind = "per_channel_min_max";
  spec.dtype = dtype;
  spec.qscheme = QScheme::per_channel_affine_float_qparams;
  return spec;
}

// qnnpack's symmetric forms: codes -127..127 and a smallest scale of 2^-12.
ObserverSpec symmetric(ObserverSpec spec) {
  spec.dtype = DType::i8;
  spec.eps = 0x1p-12;
  if (spec.qscheme == QScheme::per_tensor_affine) spec.qscheme = QScheme::per_tensor_symmetric;
  return spec;
}

// Averages with what comes in training, as the fused fake-quantize modules do.
ObserverSpec fused(ObserverSpec spec) {
  spec.kind = is_per_channel(spec.qscheme) ? "moving_average_per_channel_min_max" : "moving_average_min_max";
  return spec;
}

const std::map<std::string, QConfig, std::less<>>& table() {
  static const std::map<std::string, QConfig, std::less<>> all = {
      {"default_qconfig", {ranged(activation("min_max"), 0, 127), tensor_weight()}},
      {"fbgemm", {activation("histogram", Reduce::yes), channel_weight()}},
      {"x86", {activation("histogram", Reduce::yes), channel_weight()}},
      {"qnnpack", {activation("histogram"), tensor_weight()}},
      {"onednn", {activation("histogram"), channel_weight()}},
      {"default_dynamic_qconfig", {placeholder(DType::u8), tensor_weight()}},
      {"per_channel_dynamic_qconfig", {placeholder(DType::u8), channel_weight()}},
      {"float16_dynamic_qconfig", {placeholder(DType::f16), placeholder(DType::f16)}},
      {"float16_static_qconfig", {placeholder(DType::f16), placeholder(DType::f16)}},
      {"float_qparams_weight_only_qconfig", {placeholder(DType::f32), embedding_weight(DType::u8)}},
      {"float_qparams_weight_only_qconfig_4bit", {placeholder(DType::f32), embedding_weight(DType::u4)}},
      {"default_symmetric_qnnpack_qconfig",
       {symmetric(activation("histogram")), symmetric(ranged(tensor_weight(), -127, 127))}},
      {"default_per_channel_symmetric_qnnpack_qconfig",
       {symmetric(activation("histogram")), symmetric(ranged(channel_weight(), -127, 127))}},
      {"qat_fbgemm",
       {fused(ranged(activation("min_max", Reduce::yes), 0, 255)), fused(ranged(channel_weight(), -128, 127))}},
      {"qat_x86",
       {fused(ranged(activation("min_max", Reduce::yes), 0, 255)), fused(ranged(channel_weight(), -128, 127))}},
      {"qat_qnnpack", {fused(ranged(activation("min_max"), 0, 255)), fused(ranged(tensor_weight(), -128, 127))}},
      {"qat_onednn", {fused(ranged(activation("min_max"), 0, 255)), fused(ranged(channel_weight(), -128, 127))}},
  };
  return all;
}

// What every default mapping says beside its global qconfig.
void add_object_types(Recipe& recipe, const QConfig& global) {
  auto add = [&](const char* type, const QConfig& config) { recipe.object_type.emplace_back(type, config); };
  QConfig reuse = global;
  reuse.activation = {};
  reuse.activation.kind = "reuse_input";
  add(".reshape", reuse);
  QConfig transposed = global;
  if (is_per_channel(transposed.weight.qscheme)) {
    transposed.weight.qscheme = QScheme::per_tensor_symmetric;
    transposed.weight.kind =
        transposed.weight.kind == "moving_average_per_channel_min_max" ? "moving_average_min_max" : "min_max";
  }
  for (const char* type : {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "F.conv_transpose1d",
                           "F.conv_transpose2d", "F.conv_transpose3d", "conv_transpose"}) {
    add(type, transposed);
  }
  QConfig float_weight = global;
  float_weight.weight = placeholder(DType::f32);
  for (const char* type : {"LayerNorm", "F.layer_norm", "layer_norm"}) add(type, float_weight);
  // PReLU's kernel takes whole ranges on every engine.
  QConfig prelu;
  prelu.activation = activation("histogram");
  prelu.weight.dtype = DType::u8;
  for (const char* type : {"PReLU", "prelu"}) add(type, prelu);
  QConfig unit = global, tanh = global;
  unit.activation = fixed(1.0 / 256.0, 0);
  tanh.activation = fixed(2.0 / 256.0, 128);
  for (const char* type : {"Hardsigmoid", "F.hardsigmoid", "hardsigmoid", "Sigmoid", "torch.sigmoid", ".sigmoid",
                           "F.sigmoid", "sigmoid", "Softmax", "softmax"}) {
    add(type, unit);
  }
  for (const char* type : {"Tanh", "torch.tanh", ".tanh", "F.tanh", "tanh"}) add(type, tanh);
}

Result<Recipe> mapping(const std::string& qconfig, std::string_view backend) {
  const std::vector<std::string> names = backend_names();
  if (std::find(names.begin(), names.end(), backend) == names.end() || backend == "native") {
    return error(ErrorId::recipe_invalid, "\"{}\" is no backend; known: fbgemm, x86, qnnpack, onednn", backend);
  }
  AOQ_ASSIGN(const QConfig global, named_qconfig(qconfig));
  Recipe recipe;
  recipe.backend = std::string(backend);
  recipe.global = global;
  recipe.bias_correction = recipe.equalization = false;
  add_object_types(recipe, global);
  return recipe;
}

}  // namespace

Result<QConfig> named_qconfig(std::string_view name) {
  const auto found = table().find(name);
  if (found != table().end()) return found->second;
  return error(ErrorId::recipe_invalid, "\"{}\" is no qconfig; known: {}", name, fmt::join(qconfig_names(), ", "));
}

std::vector<std::string> qconfig_names() {
  std::vector<std::string> names;
  for (const auto& [name, config] : table()) names.push_back(name);
  return names;
}

Result<Recipe> fx_recipe(std::string_view backend) {
  AOQ_ASSIGN(Recipe recipe, mapping(std::string(backend), backend));
  recipe.name = "fx-" + std::string(backend);
  return recipe;
}

Result<Recipe> fx_qat_recipe(std::string_view backend) {
  AOQ_ASSIGN(Recipe recipe, mapping("qat_" + std::string(backend), backend));
  recipe.name = "fx-qat-" + std::string(backend);
  recipe.qat = true;
  return recipe;
}

}  // namespace aoq::fx
