// Configurations with small floats and codebooks.
#include <cmath>

#include "ir/error_id.h"
#include "passes/quantize/nvfp4.h"
#include "passes/torchao/handlers.h"

namespace aoq::torchao {

namespace {

Result<DType> float8_field(const Config& config, const char* name) {
  const DType dtype = config.fields.dtype(name);
  if (is_float(dtype) && dtype_info(dtype).bits == 8) return dtype;
  return error(ErrorId::recipe_invalid, "{}: field \"{}\" is {}, expected a float of 8 bits", config.type, name,
               dtype_name(dtype));
}

Result<Quantized> float8_only(const Config& config, const LinearSite& site, InputObserver*) {
  AOQ_ASSIGN(const DType dtype, float8_field(config, "weight_dtype"));
  AOQ_ASSIGN(QuantizedWeight weight, float8_weight(site.weight, dtype, {Granularity::Kind::row, -1}));
  return Quantized{std::move(weight), {}};
}

std::optional<float> bound(const Config& config, const char* name) {
  if (!config.fields.has(name)) return std::nullopt;
  return static_cast<float>(config.fields.real(name));
}

Result<Quantized> float8_both(const Config& config, const LinearSite& site, InputObserver*) {
  AOQ_ASSIGN(const DType dtype, float8_field(config, "weight_dtype"));
  AOQ_ASSIGN(const Granularity g, granularity_field(config, "granularity"));
  const bool is_block = g.kind == Granularity::Kind::block;
  const bool fits = is_block || g.kind == Granularity::Kind::tensor || g == Granularity{Granularity::Kind::row, -1};
  if (!fits) {
    return error(ErrorId::recipe_invalid, "granularity is {}, expected PerTensor, PerRow or PerBlock(n, k)",
                 to_string(g));
  }
  if (std::optional<Quantized> kept = misfit(site, g)) return std::move(*kept);
  AOQ_ASSIGN(QuantizedWeight weight, float8_weight(site.weight, dtype, g));
  ActivationQuantization activation;
  AOQ_ASSIGN(activation.dtype, float8_field(config, "activation_dtype"));
  if (g.kind == Granularity::Kind::tensor) activation.granularity = g;
  // Blocks of the weight meet stretches of a row of the input that are as wide.
  if (is_block) activation.granularity = {Granularity::Kind::group, g.columns};
  activation.amax_min = bound(config, "activation_value_lb");
  activation.amax_max = bound(config, "activation_value_ub");
  if (config.fields.has("act_quant_scale")) {
    const double scale = config.fields.real("act_quant_scale");
    const auto narrow = static_cast<float>(scale);
    if (!(std::isfinite(narrow) && narrow > 0.0f)) {
      return error(ErrorId::recipe_invalid, "act_quant_scale is {}, expected above 0", scale);
    }
    activation.fixed = TensorQParams{scale, 0};
    activation.granularity = {Granularity::Kind::tensor, 0};
  }
  weight.activation = activation;
  return Quantized{std::move(weight), {}};
}

Result<MxScaling> scaling_field(const Config& config) {
  constexpr std::pair<std::string_view, MxScaling> kModes[] = {
      {"floor", MxScaling::floor}, {"even", MxScaling::even}, {"ceil", MxScaling::ceil}, {"rceil", MxScaling::rceil}};
  for (const auto& [name, mode] : kModes) {
    if (config.fields.string("scaling_mode") == name) return mode;
  }
  return error(ErrorId::recipe_invalid, "scaling_mode is \"{}\", expected floor, even, ceil or rceil",
               config.fields.string("scaling_mode"));
}

Result<Quantized> mx(const Config& config, const LinearSite& site, InputObserver*) {
  MxForm form;
  form.element = config.fields.dtype("weight_dtype");
  form.block_size = config.fields.integer("block_size");
  AOQ_ASSIGN(form.scaling, scaling_field(config));
  if (std::optional<Quantized> kept = misfit(site, form.block_size, "block_size")) return std::move(*kept);
  AOQ_ASSIGN(QuantizedWeight weight, mx_weight(site.weight, form));
  return Quantized{std::move(weight), {}};
}

Result<Quantized> nvfp4(const Config& config, const LinearSite& site, InputObserver*) {
  if (std::optional<Quantized> kept = misfit(site, kNvfp4BlockSize, "blocks of")) return std::move(*kept);
  const bool is_two = config.fields.boolean("use_dynamic_per_tensor_scale");
  AOQ_ASSIGN(QuantizedWeight weight, nvfp4_weight(site.weight, is_two ? Nvfp4Levels::two : Nvfp4Levels::one));
  return Quantized{std::move(weight), {}};
}

Result<Quantized> codebook(const Config& config, const LinearSite& site, InputObserver*) {
  CodebookForm form;
  form.code_dtype = config.fields.dtype("dtype");
  form.block_size = std::get<std::vector<std::int64_t>>(*config.fields.find("block_size"));
  if (form.block_size.empty()) form.block_size = {1, 1};
  form.scale_block_size = config.fields.integer("scale_block_size");
  if (form.scale_block_size == 0) form.scale_block_size = site.weight.shape[1];
  if (form.block_size.size() == 2) {
    const Granularity blocks{Granularity::Kind::block, form.block_size[0], form.block_size[1]};
    if (std::optional<Quantized> kept = misfit(site, blocks)) return std::move(*kept);
  }
  if (std::optional<Quantized> kept = misfit(site, form.scale_block_size, "scale_block_size")) return std::move(*kept);
  AOQ_ASSIGN(QuantizedWeight weight, codebook_weight(site.weight, form));
  return Quantized{std::move(weight), {}};
}

Handler handler(const char* type, const char* doc, std::vector<AttributeDef> fields, decltype(Handler::quantize) run) {
  Handler made;
  made.type = type;
  made.doc = doc;
  made.fields = std::move(fields);
  made.quantize = run;
  return made;
}

}  // namespace

void add_float_handlers(std::vector<Handler>& handlers) {
  const AttributeDef weight = {"weight_dtype", AttributeKind::dtype, "f8_e4m3fn", "a float of 8 bits"};
  handlers.push_back(
      handler("Float8WeightOnlyConfig", "weights of 8-bit floats, one scale for each row", {weight}, float8_only));
  handlers.push_back(
      handler("Float8DynamicActivationFloat8WeightConfig",
              "inputs and weights of 8-bit floats; the inputs' scale is chosen in every run, or given",
              {weight,
               {"activation_dtype", AttributeKind::dtype, "f8_e4m3fn", "a float of 8 bits"},
               {"granularity", AttributeKind::string, "PerTensor",
                "of both: PerTensor, PerRow, or PerBlock(n, k) with 1 x k of the inputs"},
               {"activation_value_lb", AttributeKind::real, "absent", "the least magnitude that a scale is for"},
               {"activation_value_ub", AttributeKind::real, "absent", "the largest magnitude that a scale is for"},
               {"act_quant_scale", AttributeKind::real, "absent", "the inputs' scale, for a static one"}},
              float8_both));
  handlers.push_back(
      handler("MXWeightOnlyConfig", "weights of small floats in blocks that share a power of two",
              {{"weight_dtype", AttributeKind::dtype, "f4_e2m1", "f8_e4m3fn, f8_e5m2, f6_e2m3, f6_e3m2 or f4_e2m1"},
               {"block_size", AttributeKind::integer, "32", "inputs that share a scale"},
               {"scaling_mode", AttributeKind::string, "floor", "floor, even, ceil or rceil"}},
              mx));
  handlers.push_back(handler("NVFP4WeightOnlyConfig", "weights of 4-bit floats in blocks of 16",
                             {{"use_dynamic_per_tensor_scale", AttributeKind::boolean, "true",
                               "scales of blocks are times one of the whole weight; else they are 8-bit floats alone"}},
                             nvfp4));
  handlers.push_back(
      handler("CodebookWeightOnlyConfig", "entries of a table learnt by k-means, times a scale",
              {{"dtype", AttributeKind::dtype, "u4", "of the codes: u1 to u8"},
               {"block_size", AttributeKind::integers, "[]", "outputs and inputs of an entry; none: 1 and 1"},
               {"scale_block_size", AttributeKind::integer, "0", "inputs that share a scale; 0: all"}},
              codebook));
}

}  // namespace aoq::torchao
