// Configurations that work for another one: AWQConfig, SmoothQuantConfig and GPTQConfig (pytorch-semantics D.11 to
// D.13).
#include <algorithm>

#include "ir/error_id.h"
#include "passes/algorithms/awq.h"
#include "passes/algorithms/channel_scales.h"
#include "passes/algorithms/gptq.h"
#include "passes/algorithms/smoothquant.h"
#include "passes/torchao/handlers.h"

namespace aoq::torchao {

namespace {

// An observer of an algorithm as the driver sees it.
template <class Inner>
class Observing : public InputObserver {
 public:
  explicit Observing(Inner made) : inner(std::move(made)) {}
  Status observe(TensorView x) override { return inner.observe(x); }

  Inner inner;
};

template <class Inner>
Result<std::unique_ptr<InputObserver>> observing(Result<Inner> inner) {
  if (!inner.ok()) return std::move(inner).status();
  return std::unique_ptr<InputObserver>(std::make_unique<Observing<Inner>>(std::move(*inner)));
}

template <class Inner>
Result<Inner*> observer_of(InputObserver* observer) {
  if (auto* found = dynamic_cast<Observing<Inner>*>(observer)) return &found->inner;
  return error(Code::invalid_argument, "the layer was not observed");
}

// A weight with its channels multiplied, quantized by the base configuration; the inputs are divided.
Result<Quantized> quantize_scaled(const Config& base, const LinearSite& site, const std::vector<float>& factors) {
  AOQ_ASSIGN(const Tensor scaled, scale_columns(site.weight, factors));
  AOQ_ASSIGN(Quantized out, quantize_weight(base, {site.name, scaled.view(), site.bias}, nullptr));
  if (out.weight) out.weight->pre_scale = pre_scale_of(factors, site.weight.dtype);
  return out;
}

Status check_base(const Config& config, std::initializer_list<std::string_view> known) {
  const std::string& base = config.base.front().type;
  if (std::ranges::find(known, base) != known.end()) return {};
  std::string list;
  for (std::string_view name : known) list += (list.empty() ? "" : ", ") + std::string(name);
  return error(ErrorId::recipe_invalid, "{} cannot work for {}: it works for {}", config.type, base, list);
}

// ---- AWQ

Result<std::unique_ptr<InputObserver>> observe_awq(const Config& config, const LinearSite& site) {
  AOQ_TRY(check_base(config, {"Int4WeightOnlyConfig", "Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig",
                              "IntxWeightOnlyConfig", "UIntxWeightOnlyConfig"}));
  const std::int64_t rows = config.fields.integer("rows"), depth = site.weight.shape[1];
  if (rows < 1) return error(ErrorId::recipe_invalid, "AWQConfig: rows is {}, expected 1 or more", rows);
  return observing(AwqObserver::make(depth, {rows * depth * 4, AwqOverflow::thin_out}));
}

Result<Quantized> awq(const Config& config, const LinearSite& site, InputObserver* observer) {
  AOQ_ASSIGN(const AwqObserver* seen, observer_of<AwqObserver>(observer));
  const Config& base = config.base.front();
  // A layer that the base leaves in float has nothing to search for.
  AOQ_ASSIGN(Quantized plain, quantize_weight(base, site, nullptr));
  if (!plain.weight) return plain;
  AwqLayer layer{site.weight, site.bias, nullptr};
  layer.quantized_linear = [&](TensorView weight, TensorView x) -> Result<Tensor> {
    AOQ_ASSIGN(const Quantized q, quantize_weight(base, {site.name, weight, site.bias}, nullptr));
    return linear(*q.weight, x, site.bias);
  };
  AOQ_ASSIGN(const AwqSearch found, awq_search(*seen, layer, static_cast<int>(config.fields.integer("candidates"))));
  return quantize_scaled(base, site, found.factors);
}

// ---- SmoothQuant

Result<std::unique_ptr<InputObserver>> observe_smoothquant(const Config& config, const LinearSite& site) {
  AOQ_TRY(check_base(config, {"Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig",
                              "Int8StaticActivationInt8WeightConfig", "Int8DynamicActivationIntxWeightConfig"}));
  return observing(SmoothQuantObserver::make(site.weight.shape[1]));
}

// The base with the scale of the divided inputs, where it is static and brings none.
Result<Config> with_static_scale(const Config& config, const SmoothQuantObserver& seen, const LinearSite& site,
                                 const std::vector<float>& factors) {
  Config base = config.base.front();
  if (base.type != "Int8StaticActivationInt8WeightConfig" || base.fields.has("act_quant_scale")) return base;
  AOQ_ASSIGN(const SmoothedRange range, smoothed_range(seen, factors, site.weight.dtype));
  AOQ_ASSIGN(const MappingType mapping, mapping_field(base, "act_mapping_type"));
  const AffineFormula formula{mapping, DType::i8, {-128, 127}, 0x1p-23f, site.weight.dtype, true, false};
  AOQ_ASSIGN(const QParams q, choose_qparams_affine_with_min_max(formula, {&range.min, 1}, {&range.max, 1}));
  base.fields.set("act_quant_scale", static_cast<double>(q.scale[0]));
  base.fields.set("act_quant_zero_point", q.zero_point[0]);
  return base;
}

Result<Quantized> smoothquant(const Config& config, const LinearSite& site, InputObserver* observer) {
  AOQ_ASSIGN(const SmoothQuantObserver* seen, observer_of<SmoothQuantObserver>(observer));
  const double alpha = config.fields.real("alpha");
  if (!(alpha >= 0 && alpha <= 1)) return error(ErrorId::recipe_invalid, "alpha is {}, expected 0 to 1", alpha);
  AOQ_ASSIGN(const std::vector<float> factors, smoothquant_factors(*seen, site.weight, alpha));
  AOQ_ASSIGN(const Config base, with_static_scale(config, *seen, site, factors));
  return quantize_scaled(base, site, factors);
}

// ---- GPTQ

Result<std::unique_ptr<InputObserver>> observe_gptq(const Config& config, const LinearSite& site) {
  AOQ_TRY(check_base(config, {"Int4WeightOnlyConfig", "Int8WeightOnlyConfig", "NVFP4WeightOnlyConfig"}));
  return observing(GptqObserver::make(site.weight.shape[1]));
}

// One scale for each row is all that the algorithm has for i8.
Status check_rows(const Config& int8) {
  if (int8.fields.has("group_size")) {
    return error(ErrorId::recipe_invalid, "its Int8WeightOnlyConfig has groups of {}, expected PerRow",
                 int8.fields.integer("group_size"));
  }
  AOQ_ASSIGN(const Granularity g, granularity_field(int8, "granularity"));
  if (g.kind == Granularity::Kind::row) return {};
  return error(ErrorId::recipe_invalid, "its Int8WeightOnlyConfig is {}, expected PerRow", to_string(g));
}

// How GPTQ rounds for a base configuration.
Result<std::unique_ptr<RowQuantizer>> row_quantizer_of(const Config& base, TensorView weight) {
  if (base.type == "Int8WeightOnlyConfig") {
    AOQ_TRY(check_rows(base));
    return int8_row_quantizer(weight.dtype);
  }
  if (base.type == "Int4WeightOnlyConfig") {
    return int4_group_quantizer(base.fields.integer("group_size"), weight.dtype);
  }
  if (base.fields.boolean("use_dynamic_per_tensor_scale")) return nvfp4_block_quantizer(weight);
  return error(ErrorId::recipe_invalid,
               "its NVFP4WeightOnlyConfig has no scale of the whole weight, expected "
               "use_dynamic_per_tensor_scale");
}

Result<Quantized> gptq(const Config& config, const LinearSite& site, InputObserver* observer) {
  AOQ_ASSIGN(GptqObserver * seen, observer_of<GptqObserver>(observer));
  const Config& base = config.base.front();
  AOQ_ASSIGN(Quantized out, quantize_weight(base, site, nullptr));
  if (!out.weight) return out;
  AOQ_ASSIGN(std::unique_ptr<RowQuantizer> quantizer, row_quantizer_of(base, site.weight));
  GptqOptions options;
  options.damping = config.fields.real("percdamp");
  options.block_size = config.fields.integer("gptq_quantize_block_size");
  // Blocks are whole groups; rows are one.
  const std::int64_t group = std::max<std::int64_t>(quantizer->group_size(), 1);
  if (options.block_size > group) options.block_size -= options.block_size % group;
  AOQ_ASSIGN(const Tensor hessian, seen->hessian());
  AOQ_ASSIGN(GptqWeight found, gptq_quantize(site.weight, hessian, std::move(quantizer), options));
  out.weight->codes = std::move(found.codes);
  out.weight->block_size = std::move(found.block_size);
  out.weight->qparams = std::move(found.qparams);
  return out;
}

Handler algorithm(const char* type, const char* doc, std::vector<AttributeDef> fields) {
  Handler handler;
  handler.type = type;
  handler.doc = doc;
  handler.fields = std::move(fields);
  handler.has_base = true;
  return handler;
}

}  // namespace

void add_algorithm_handlers(std::vector<Handler>& handlers) {
  Handler a = algorithm("AWQConfig", "a factor for each input channel, found by trying powers of the mean input",
                        {{"candidates", AttributeKind::integer, "20", "powers that are tried"},
                         {"rows", AttributeKind::integer, "512", "rows of input that are kept to measure by"}});
  a.observe = observe_awq;
  a.quantize = awq;
  handlers.push_back(std::move(a));
  Handler s = algorithm("SmoothQuantConfig", "a factor for each input channel, from the largest input and weight",
                        {{"alpha", AttributeKind::real, "0.5", "how much of the input's spread goes into the weight"}});
  s.observe = observe_smoothquant;
  s.quantize = smoothquant;
  handlers.push_back(std::move(s));
  Handler g = algorithm("GPTQConfig", "rounds column by column and lets later columns make up for the error",
                        {{"percdamp", AttributeKind::real, "0.01", "of the mean diagonal, added to it"},
                         {"gptq_quantize_block_size", AttributeKind::integer, "256",
                          "columns between updates, rounded down to whole groups"}});
  g.observe = observe_gptq;
  g.quantize = gptq;
  handlers.push_back(std::move(g));
}

}  // namespace aoq::torchao
