// Configurations that quantize the input of a layer too: by what each run brings, or by a scale learnt before.
#include <algorithm>
#include <cmath>

#include "ir/error_id.h"
#include "passes/quantize/arithmetic.h"
#include "passes/torchao/handlers.h"

namespace aoq::torchao {

namespace {

// Of an activation: PerRow and PerToken are one thing.
Result<Granularity> activation_granularity(const Config& config, const char* name) {
  AOQ_ASSIGN(const Granularity g, granularity_field(config, name));
  if (g.kind == Granularity::Kind::tensor) return g;
  const bool is_row = g.kind == Granularity::Kind::token || (g.kind == Granularity::Kind::row && g.value == -1);
  if (is_row) return Granularity{Granularity::Kind::token, 0};
  return error(ErrorId::recipe_invalid, "{}: field \"{}\" is {}, expected PerRow or PerTensor", config.type, name,
               to_string(g));
}

Result<QuantizedWeight> int8_rows(const Config& config, const LinearSite& site) {
  AOQ_ASSIGN(const Granularity g, granularity_field(config, "granularity"));
  const bool fits = g.kind == Granularity::Kind::tensor || g.kind == Granularity::Kind::row;
  if (!fits) return error(ErrorId::recipe_invalid, "granularity is {}, expected PerRow or PerTensor", to_string(g));
  return int8_weight(site.weight, g);
}

Result<ActivationQuantization> activation_of(const Config& config) {
  ActivationQuantization activation;
  const bool has_own = config.fields.has("act_granularity");
  AOQ_ASSIGN(activation.granularity, activation_granularity(config, has_own ? "act_granularity" : "granularity"));
  AOQ_ASSIGN(activation.mapping, mapping_field(config, "act_mapping_type"));
  return activation;
}

Result<Quantized> int8_dynamic(const Config& config, const LinearSite& site, InputObserver*) {
  AOQ_ASSIGN(QuantizedWeight weight, int8_rows(config, site));
  AOQ_ASSIGN(weight.activation, activation_of(config));
  return Quantized{std::move(weight), {}};
}

Result<Quantized> intx_dynamic(const Config& config, const LinearSite& site, InputObserver*) {
  IntxForm form;
  form.dtype = config.fields.dtype("weight_dtype");
  AOQ_ASSIGN(form.granularity, granularity_field(config, "weight_granularity"));
  AOQ_ASSIGN(form.mapping, mapping_field(config, "weight_mapping_type"));
  if (std::optional<Quantized> kept = misfit(site, form.granularity)) return std::move(*kept);
  if (config.fields.has("weight_scale_dtype")) form.scale_dtype = config.fields.dtype("weight_scale_dtype");
  AOQ_ASSIGN(QuantizedWeight weight, intx_by_algorithm(config, site, form));
  ActivationQuantization activation;
  AOQ_ASSIGN(activation.mapping, mapping_field(config, "act_mapping_type"));
  weight.activation = activation;
  return Quantized{std::move(weight), {}};
}

// The range of all inputs seen.
class RangeObserver : public InputObserver {
 public:
  Status observe(TensorView x) override {
    AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
    for (float v : values) {
      if (!std::isfinite(v)) return error(Code::invalid_data, "an activation is {}, expected finite numbers", v);
      min_ = std::min(min_, v);
      max_ = std::max(max_, v);
    }
    return {};
  }
  bool has_seen() const { return min_ <= max_; }
  float min() const { return min_; }
  float max() const { return max_; }

 private:
  float min_ = INFINITY, max_ = -INFINITY;
};

Result<std::unique_ptr<InputObserver>> observe_range(const Config& config, const LinearSite&) {
  // A scale that is given needs no data.
  if (config.fields.has("act_quant_scale")) return std::unique_ptr<InputObserver>();
  return std::unique_ptr<InputObserver>(std::make_unique<RangeObserver>());
}

Result<TensorQParams> static_qparams(const Config& config, MappingType mapping, DType arithmetic,
                                     InputObserver* observer) {
  if (config.fields.has("act_quant_scale")) {
    const std::int64_t zero_point =
        config.fields.has("act_quant_zero_point") ? config.fields.integer("act_quant_zero_point") : 0;
    const double scale = config.fields.real("act_quant_scale");
    if (std::isfinite(scale) && scale > 0 && zero_point >= -128 && zero_point <= 127) {
      return TensorQParams{scale, zero_point};
    }
    return error(ErrorId::recipe_invalid, "act_quant_scale is {} and act_quant_zero_point {}, expected above 0 and i8",
                 scale, zero_point);
  }
  const auto* range = dynamic_cast<const RangeObserver*>(observer);
  if (range == nullptr || !range->has_seen()) {
    return error(Code::invalid_argument, "the observer of the input has seen no data");
  }
  const AffineFormula formula{mapping, DType::i8, {-128, 127}, 0x1p-23f, arithmetic, true, false};
  const float lo = range->min(), hi = range->max();
  AOQ_ASSIGN(const QParams q, choose_qparams_affine_with_min_max(formula, {&lo, 1}, {&hi, 1}));
  return TensorQParams{q.scale[0], q.zero_point[0]};
}

Result<Quantized> int8_static(const Config& config, const LinearSite& site, InputObserver* observer) {
  AOQ_ASSIGN(QuantizedWeight weight, int8_rows(config, site));
  AOQ_ASSIGN(ActivationQuantization activation, activation_of(config));
  activation.granularity = {Granularity::Kind::tensor, 0};
  AOQ_ASSIGN(activation.fixed, static_qparams(config, activation.mapping, weight.dtype, observer));
  weight.activation = activation;
  return Quantized{std::move(weight), {}};
}

}  // namespace

void add_activation_handlers(std::vector<Handler>& handlers) {
  const AttributeDef granularity = {"granularity", AttributeKind::string, "PerRow",
                                    "of weight and input: PerRow or PerTensor"};
  const AttributeDef act_granularity = {"act_granularity", AttributeKind::string, "absent",
                                        "of the input, where it is another: PerRow or PerTensor"};
  const AttributeDef act_mapping = {"act_mapping_type", AttributeKind::string, "symmetric", "symmetric or asymmetric"};

  Handler dynamic;
  dynamic.type = "Int8DynamicActivationInt8WeightConfig";
  dynamic.doc = "i8 inputs with a scale for each row, chosen in every run, and i8 weights";
  dynamic.fields = {granularity, act_granularity, act_mapping};
  dynamic.quantize = int8_dynamic;
  handlers.push_back(std::move(dynamic));

  Handler intx;
  intx.type = "Int8DynamicActivationIntxWeightConfig";
  intx.doc = "i8 inputs with a scale for each row, chosen in every run, and weights of 1 to 8 bits in groups (8da4w)";
  intx.fields = {
      {"weight_dtype", AttributeKind::dtype, "i8", "i1 to i8"},
      {"weight_granularity", AttributeKind::string, "PerGroup(32)", "PerGroup(g) or PerAxis(0)"},
      {"weight_mapping_type", AttributeKind::string, "symmetric", "symmetric, symmetric_no_clipping_err or asymmetric"},
      {"weight_scale_dtype", AttributeKind::dtype, "absent", "scales are rounded to it"},
      {"intx_choose_qparams_algorithm", AttributeKind::string, "affine", "affine or hqq_scale_only"},
      {"act_mapping_type", AttributeKind::string, "asymmetric", "symmetric or asymmetric"}};
  intx.quantize = intx_dynamic;
  handlers.push_back(std::move(intx));

  Handler fixed;
  fixed.type = "Int8StaticActivationInt8WeightConfig";
  fixed.doc = "i8 inputs with one scale, given or learnt from the range of calibration data, and i8 weights";
  fixed.fields = {granularity,
                  act_granularity,
                  act_mapping,
                  {"act_quant_scale", AttributeKind::real, "absent", "absent: learnt from data"},
                  {"act_quant_zero_point", AttributeKind::integer, "absent", "absent: 0"}};
  fixed.observe = observe_range;
  fixed.quantize = int8_static;
  handlers.push_back(std::move(fixed));
}

}  // namespace aoq::torchao
