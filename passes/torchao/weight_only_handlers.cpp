// Configurations that leave the input of a layer in float.
#include <algorithm>

#include "ir/error_id.h"
#include "passes/algorithms/hqq.h"
#include "passes/quantize/arithmetic.h"
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
  if (std::optional<Quantized> kept = misfit(site, granularity)) return std::move(*kept);
  AOQ_ASSIGN(QuantizedWeight weight, int8_weight(site.weight, granularity));
  return quantized(std::move(weight));
}

Status unknown_algorithm(const std::string& found, const char* expected) {
  return error(ErrorId::recipe_invalid, "the algorithm is \"{}\", expected {}", found, expected);
}

// Scales and zero points by HQQ; the zero point becomes the value of the middle code.
Result<Quantized> hqq(const LinearSite& site, DType dtype, std::int64_t group) {
  HqqForm form;
  form.bits = dtype_info(dtype).bits;
  form.group_size = group;
  form.parameters = site.weight.dtype;
  AOQ_ASSIGN(HqqWeight found, hqq_quantize_tinygemm(site.weight, form));
  QuantizedWeight out;
  out.dtype = site.weight.dtype;
  out.block_size = {1, group};
  out.codes = std::move(found.codes);
  out.qparams.dtype = dtype;
  out.qparams.range = {0, (std::int64_t{1} << form.bits) - 1};
  AOQ_ASSIGN(out.qparams.scale, to_floats(found.scale.view()));
  AOQ_ASSIGN(out.qparams.float_zero_point, to_floats(found.zero.view()));
  return quantized(std::move(out));
}

// The scale alone by HQQ.
Result<QuantizedWeight> hqq_scale_only(const LinearSite& site, const IntxForm& intx) {
  if (intx.mapping == MappingType::asymmetric) {
    return error(ErrorId::recipe_invalid, "hqq_scale_only is symmetric, the mapping is asymmetric");
  }
  AOQ_ASSIGN(QuantizedWeight out, intx_weight(site.weight, intx));
  ScaleOnlyHqqForm form;
  form.dtype = intx.dtype;
  form.range = out.qparams.range;
  form.group_size = out.block_size[1];
  AOQ_ASSIGN(ScaleOnlyHqqWeight found, hqq_quantize_scale_only(site.weight, form));
  out.codes = std::move(found.codes);
  AOQ_ASSIGN(out.qparams.scale, to_floats(found.scale.view()));
  std::ranges::fill(out.qparams.zero_point, std::int64_t{0});
  return out;
}

Result<Quantized> intx(const Config& config, const LinearSite& site, InputObserver*) {
  IntxForm form;
  form.dtype = config.fields.dtype("weight_dtype");
  AOQ_ASSIGN(form.granularity, granularity_field(config, "granularity"));
  AOQ_ASSIGN(form.mapping, mapping_field(config, "mapping_type"));
  if (std::optional<Quantized> kept = misfit(site, form.granularity)) return std::move(*kept);
  if (config.fields.has("scale_dtype")) form.scale_dtype = config.fields.dtype("scale_dtype");
  AOQ_ASSIGN(QuantizedWeight weight, intx_by_algorithm(config, site, form));
  return quantized(std::move(weight));
}

Result<Quantized> int4(const Config& config, const LinearSite& site, InputObserver*) {
  const std::int64_t group = config.fields.integer("group_size");
  if (group < 1) return error(ErrorId::recipe_invalid, "group_size is {}, expected 1 or more", group);
  if (std::optional<Quantized> kept = misfit(site, group, "group_size")) {
    kept->is_error_when_named = false;  // torchao passes over such layers
    return std::move(*kept);
  }
  const std::string& algorithm = config.fields.string("int4_choose_qparams_algorithm");
  if (algorithm == "hqq") return hqq(site, DType::u4, group);
  if (algorithm != "tinygemm") return unknown_algorithm(algorithm, "tinygemm or hqq");
  AOQ_ASSIGN(QuantizedWeight weight, int4_weight(site.weight, group));
  return quantized(std::move(weight));
}

Result<Quantized> uintx(const Config& config, const LinearSite& site, InputObserver*) {
  const DType dtype = config.fields.dtype("dtype");
  const std::int64_t group = config.fields.integer("group_size");
  const bool fits = is_integer(dtype) && !is_signed_integer(dtype) && dtype_info(dtype).bits <= 8;
  if (!fits) return error(ErrorId::recipe_invalid, "dtype is {}, expected u1 to u8", dtype_name(dtype));
  if (std::optional<Quantized> kept = misfit(site, group, "group_size")) return std::move(*kept);
  if (config.fields.boolean("use_hqq")) return hqq(site, dtype, group);
  AOQ_ASSIGN(QuantizedWeight weight, uintx_weight(site.weight, dtype, group));
  return quantized(std::move(weight));
}

}  // namespace

Result<QuantizedWeight> intx_by_algorithm(const Config& config, const LinearSite& site, const IntxForm& form) {
  const std::string& algorithm = config.fields.string("intx_choose_qparams_algorithm");
  if (algorithm == "hqq_scale_only") return hqq_scale_only(site, form);
  if (algorithm != "affine") return unknown_algorithm(algorithm, "affine or hqq_scale_only");
  return intx_weight(site.weight, form);
}

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
      {"scale_dtype", AttributeKind::dtype, "absent", "scales are rounded to it"},
      {"intx_choose_qparams_algorithm", AttributeKind::string, "affine", "affine or hqq_scale_only"}};
  intx_only.quantize = intx;
  handlers.push_back(std::move(intx_only));

  Handler int4_only;
  int4_only.type = "Int4WeightOnlyConfig";
  int4_only.doc = "u4 weights with a scale and a float zero point for each group; other layers stay in float";
  int4_only.fields = {{"group_size", AttributeKind::integer, "128", "inputs that share a scale"},
                      {"int4_choose_qparams_algorithm", AttributeKind::string, "tinygemm", "tinygemm or hqq"}};
  int4_only.quantize = int4;
  handlers.push_back(std::move(int4_only));

  Handler uintx_only;
  uintx_only.type = "UIntxWeightOnlyConfig";
  uintx_only.doc = "unsigned weights of 1 to 8 bits in groups, affine";
  uintx_only.fields = {{"dtype", AttributeKind::dtype, "u4", "u1 to u8"},
                       {"group_size", AttributeKind::integer, "64", "inputs that share a scale"},
                       {"use_hqq", AttributeKind::boolean, "false", "scales and zero points by HQQ"}};
  uintx_only.quantize = uintx;
  handlers.push_back(std::move(uintx_only));
}

}  // namespace aoq::torchao
