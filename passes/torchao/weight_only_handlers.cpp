// Configurations that leave the input of a layer in float.
#include "ir/error_id.h"
#include "passes/torchao/handlers.h"

namespace aoq::torchao {

namespace {

Quantized quantized(QuantizedWeight weight) {
  return {std::move(weight), {}};
}

// int8 weights: rows, the whole tensor, or groups.
Result<Quantized> int8(const Config& config, const LinearSite& site, InputObserver*) {
  AOQ_ASSIGN(Granularity granularity, granularity_field(config, "granularity"));
  if (config.fields.has("group_size")) granularity = {Granularity::Kind::group, config.fields.integer("group_size")};
  if (granularity.kind == Granularity::Kind::axis || granularity.kind == Granularity::Kind::token) {
    return error(ErrorId::recipe_invalid, "granularity is {}, expected PerRow, PerTensor or PerGroup(g)",
                 to_string(granularity));
  }
  AOQ_ASSIGN(QuantizedWeight weight, int8_weight(site.weight, granularity));
  return quantized(std::move(weight));
}

Result<Quantized> intx(const Config& config, const LinearSite& site, InputObserver*) {
  IntxForm form;
  form.dtype = config.fields.dtype("weight_dtype");
  AOQ_ASSIGN(form.granularity, granularity_field(config, "granularity"));
  AOQ_ASSIGN(form.mapping, mapping_field(config, "mapping_type"));
  if (config.fields.has("scale_dtype")) form.scale_dtype = config.fields.dtype("scale_dtype");
  AOQ_ASSIGN(QuantizedWeight weight, intx_weight(site.weight, form));
  return quantized(std::move(weight));
}

Result<Quantized> int4(const Config& config, const LinearSite& site, InputObserver*) {
  const std::int64_t group = config.fields.integer("group_size");
  if (group < 1) return error(ErrorId::recipe_invalid, "group_size is {}, expected 1 or more", group);
  const std::int64_t depth = site.weight.shape.back();
  if (depth % group != 0) {
    return Quantized{std::nullopt, fmt::format("{} inputs are no multiple of group_size {}", depth, group)};
  }
  AOQ_ASSIGN(QuantizedWeight weight, int4_weight(site.weight, group));
  return quantized(std::move(weight));
}

}  // namespace

void add_weight_only_handlers(std::vector<Handler>& handlers) {
  Handler int8_only;
  int8_only.type = "Int8WeightOnlyConfig";
  int8_only.doc = "i8 weights, symmetric";
  int8_only.fields = {{"granularity", AttributeKind::string, "PerRow", "PerRow, PerTensor or PerGroup(g)"},
                      {"group_size", AttributeKind::integer, "absent", "in place of PerGroup(g)"}};
  int8_only.quantize = int8;
  handlers.push_back(std::move(int8_only));

  Handler intx_only;
  intx_only.type = "IntxWeightOnlyConfig";
  intx_only.doc = "weights of 1 to 8 bits with a scale for each output or group";
  intx_only.fields = {
      {"weight_dtype", AttributeKind::dtype, "i8", "i1 to i8"},
      {"granularity", AttributeKind::string, "PerAxis(0)", "PerAxis(0) or PerGroup(g)"},
      {"mapping_type", AttributeKind::string, "symmetric", "symmetric, symmetric_no_clipping_err or asymmetric"},
      {"scale_dtype", AttributeKind::dtype, "absent", "scales are rounded to it"}};
  intx_only.quantize = intx;
  handlers.push_back(std::move(intx_only));

  Handler int4_only;
  int4_only.type = "Int4WeightOnlyConfig";
  int4_only.doc = "u4 weights with a scale and a float zero point for each group; other layers stay in float";
  int4_only.fields = {{"group_size", AttributeKind::integer, "128", "inputs that share a scale"}};
  int4_only.quantize = int4;
  handlers.push_back(std::move(int4_only));
}

}  // namespace aoq::torchao
