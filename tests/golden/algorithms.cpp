// Section "algorithms": weight algorithms and configurations on one linear layer.
#include <algorithm>
#include <cmath>
#include <random>

#include "passes/algorithms/awq.h"
#include "passes/algorithms/channel_scales.h"
#include "passes/algorithms/gptq.h"
#include "passes/algorithms/hqq.h"
#include "passes/algorithms/smoothquant.h"
#include "passes/quantize/codebook.h"
#include "tests/golden/configs.h"
#include "tests/golden/sections.h"

namespace aoq::golden {

namespace {

// What the cases allow for codes: those whose number lies this close to a tie between two codes, relative to itself.
constexpr double kTieDistance = 1e-5;

double distance_from_tie(double codes) {
  return std::fabs(codes - std::floor(codes) - 0.5);
}

// `in_codes(i)` is element i in units of codes, before it was rounded.
template <class InCodes>
void equal_but_for_ties(Case& c, const char* output, const Tensor& found, const InCodes& in_codes) {
  const Result<Tensor> expected = c.output(output);
  if (!expected.ok()) return c.fail(expected.status().message());
  const std::vector<double> a = to_doubles(*expected), b = to_doubles(found);
  if (expected->shape() != found.shape()) return c.fail(std::string(output) + ": shapes differ");
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double code = in_codes(i), allowed = kTieDistance * std::max(1.0, std::fabs(code));
    if (a[i] == b[i] || (std::fabs(a[i] - b[i]) == 1 && distance_from_tie(code) <= allowed)) continue;
    return c.fail(fmt::format("{}: element {} is {}, expected {}; before rounding {}", output, i, b[i], a[i], code));
  }
}

// Every number within `tolerance` of itself; the form for tinygemm keeps its parameters in one column.
void near(Case& c, const char* output, const Tensor& found, double tolerance) {
  const Result<std::vector<std::int64_t>> shape = integers_of(c.output_json(output), "shape");
  if (!shape.ok()) return c.fail(shape.status().message());
  const Result<Tensor> reshaped = found.reshaped(*shape);
  if (!reshaped.ok()) return c.fail(reshaped.status().message());
  c.equal_relative(c.output_json(output), *reshaped, tolerance, 1);
}

Status hqq(Case& c) {
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  AOQ_ASSIGN(const std::int64_t bits, json_integer(c.args(), "bits"));
  AOQ_ASSIGN(const bool optimizes, json_bool(c.args(), "optimize"));
  AOQ_ASSIGN(const std::string form_name, json_string(c.args(), "form"));
  HqqForm form;
  form.bits = static_cast<int>(bits);
  form.search = optimizes ? HqqSearch::proximal : HqqSearch::none;
  AOQ_ASSIGN(form.group_size, json_integer(c.args(), "group_size"));
  AOQ_ASSIGN(const std::string parameters, json_string(c.args(), "compute_dtype"));
  AOQ_ASSIGN(form.parameters, dtype_of(parameters));
  AOQ_ASSIGN(const HqqWeight plain, hqq_quantize(w.view(), form));
  const std::vector<double> x = to_doubles(w), scale = to_doubles(plain.scale), zero = to_doubles(plain.zero);
  equal_but_for_ties(c, "q", plain.codes, [&](std::size_t i) {
    const std::size_t g = i / static_cast<std::size_t>(form.group_size);
    return optimizes ? x[i] / scale[g] + zero[g] : 0;
  });
  AOQ_ASSIGN(const HqqWeight q, form_name == "hqq" ? plain : hqq_quantize_tinygemm(w.view(), form));
  near(c, "scale", q.scale, 0);
  near(c, "zero", q.zero, optimizes ? 1e-4 : 0);
  return {};
}

Status hqq_scale_only(Case& c) {
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  ScaleOnlyHqqForm form;
  AOQ_ASSIGN(const std::string dtype, json_string(c.args(), "dtype"));
  AOQ_ASSIGN(form.dtype, dtype_of(dtype));
  AOQ_ASSIGN(form.range.min, json_integer(c.args(), "quant_min"));
  AOQ_ASSIGN(form.range.max, json_integer(c.args(), "quant_max"));
  AOQ_ASSIGN(form.group_size, json_integer(c.args(), "group_size"));
  AOQ_ASSIGN(const ScaleOnlyHqqWeight q, hqq_quantize_scale_only(w.view(), form));
  const std::vector<double> x = to_doubles(w), scale = to_doubles(q.scale);
  equal_but_for_ties(c, "q", q.codes,
                     [&](std::size_t i) { return x[i] / scale[i / static_cast<std::size_t>(form.group_size)]; });
  near(c, "scale", q.scale, 1e-6);
  return {};
}

Status compare_observed_hessian(Case& c, const Tensor& expected) {
  AOQ_ASSIGN(const std::vector<Tensor> calibration, c.inputs("calibration"));
  if (calibration.empty()) return {};
  AOQ_ASSIGN(GptqObserver observer, GptqObserver::make(expected.shape()[0]));
  for (const Tensor& batch : calibration) AOQ_TRY(observer.observe(batch.view()));
  AOQ_ASSIGN(const Tensor found, observer.hessian());
  const std::vector<double> a = to_doubles(expected), b = to_doubles(found);
  const double largest = *std::max_element(a.begin(), a.end());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::fabs(a[i] - b[i]) > 1e-5 * largest) {
      c.fail(fmt::format("hessian: element {} is {}, expected {}", i, b[i], a[i]));
      break;
    }
  }
  return {};
}

// The case's own tolerance: codes differ by at most 1, in at most 1 %.
Status gptq_int8(Case& c) {
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  AOQ_ASSIGN(const Tensor hessian, c.input("hessian"));
  AOQ_TRY(compare_observed_hessian(c, hessian));
  GptqOptions options;
  AOQ_ASSIGN(options.damping, json_number(c.args(), "percdamp"));
  AOQ_ASSIGN(options.block_size, json_integer(c.args(), "block_size"));
  AOQ_ASSIGN(const GptqWeight q, gptq_quantize(w.view(), hessian, int8_row_quantizer(), options));
  c.equal("scale", q.qparams.scale);
  AOQ_ASSIGN(const Tensor expected, c.output("q"));
  const std::vector<double> a = to_doubles(expected), b = to_doubles(q.codes);
  std::size_t differing = 0;
  for (std::size_t i = 0; i < a.size() && a.size() == b.size(); ++i) {
    if (std::fabs(a[i] - b[i]) > 1) c.fail(fmt::format("q: element {} is {}, expected {}", i, b[i], a[i]));
    if (a[i] != b[i]) ++differing;
  }
  if (a.size() != b.size() || differing * 100 > a.size()) c.fail(fmt::format("q: {} differ", differing));
  return {};
}

// Codes are those of the codebook that the case gives.
Status codebook(Case& c) {
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  CodebookForm form;
  AOQ_ASSIGN(form.block_size, integers_of(c.args(), "block_size"));
  AOQ_ASSIGN(form.scale_block_size, json_integer(c.args(), "scale_block_size"));
  AOQ_ASSIGN(const std::string dtype, json_string(c.args(), "code_dtype"));
  AOQ_ASSIGN(form.code_dtype, dtype_of(dtype));
  AOQ_ASSIGN(const Codebook chosen, choose_codebook(w.view(), form));
  c.equal("scales", chosen.scales);
  c.equal_relative(c.output_json("codebook"), chosen.entries, 1e-4, 1);
  Codebook given;
  AOQ_ASSIGN(given.entries, c.output("codebook"));
  AOQ_ASSIGN(given.scales, c.output("scales"));
  AOQ_ASSIGN(const Tensor codes, quantize_codebook(w.view(), given, form.code_dtype));
  c.equal("codes", codes);
  AOQ_ASSIGN(const Tensor values, dequantize_codebook(codes.view(), given, DType::f32));
  c.equal("dequantized", values);
  return {};
}

// The layer of an awq or smoothquant case.
struct LayerCase {
  torchao::Config base;
  Tensor w, bias, x;
  std::vector<Tensor> calibration;

  Result<torchao::QuantizedWeight> quantized(TensorView weight) const {
    AOQ_ASSIGN(torchao::Quantized q, torchao::quantize_weight(base, {"0", weight, &bias}, nullptr));
    if (!q.weight) return error(Code::invalid_data, "kept in float: {}", q.kept_because);
    return std::move(*q.weight);
  }
};

Result<LayerCase> read_layer(const Case& c) {
  LayerCase layer;
  AOQ_ASSIGN(const std::string base, json_string(c.args(), "base_config"));
  AOQ_ASSIGN(layer.base, config_of(base));
  AOQ_ASSIGN(layer.w, c.input("w"));
  AOQ_ASSIGN(layer.bias, c.input("bias"));
  AOQ_ASSIGN(layer.x, c.input("x"));
  AOQ_ASSIGN(layer.calibration, c.inputs("calibration"));
  return layer;
}

// The weight that the case gives: its result must not depend on which way a tie went.
Result<torchao::QuantizedWeight> given_weight(const Case& c, torchao::QuantizedWeight form) {
  AOQ_ASSIGN(form.codes, c.output("qdata"));
  AOQ_ASSIGN(const Tensor scale, c.output("scale"));
  AOQ_ASSIGN(const Tensor pre_scale, c.output("act_pre_scale"));
  const std::span<const float> s = scale.as<float>(), p = pre_scale.as<float>();
  form.qparams.scale.assign(s.begin(), s.end());
  form.pre_scale.assign(p.begin(), p.end());
  return form;
}

// The case's own tolerance: factors within 1e-6, and so are the scales that follow from them.
Status compare_scaled_layer(Case& c, const LayerCase& layer, std::span<const float> factors) {
  AOQ_ASSIGN(const Tensor scaled, scale_columns(layer.w.view(), factors));
  AOQ_ASSIGN(torchao::QuantizedWeight q, layer.quantized(scaled.view()));
  q.pre_scale = pre_scale_of(factors, layer.w.dtype());
  const std::vector<std::int64_t> k{static_cast<std::int64_t>(factors.size())};
  AOQ_ASSIGN(const Tensor pre_scale, Tensor::from_values<float>(DType::f32, k, q.pre_scale));
  AOQ_ASSIGN(const Tensor scale,
             Tensor::from_values<float>(DType::f32, q.parameter_shape(), std::span<const float>(q.qparams.scale)));
  near(c, "act_pre_scale", pre_scale, 1e-6);
  near(c, "scale", scale, 1e-6);
  const std::vector<double> values = to_doubles(scaled), scales = to_doubles(scale);
  equal_but_for_ties(c, "qdata", q.codes, [&](std::size_t i) { return values[i] / scales[i / factors.size()]; });
  AOQ_ASSIGN(const torchao::QuantizedWeight given, given_weight(c, std::move(q)));
  AOQ_ASSIGN(const Tensor y, torchao::linear(given, layer.x.view(), &layer.bias));
  compare_result(c, y);
  return {};
}

// Finds the candidate whose factors the case gives, within the case's tolerance; -1 for none.
Result<int> given_candidate(const Case& c, const AwqObserver& observer, std::int64_t candidates) {
  AOQ_ASSIGN(const Tensor pre_scale, c.output("act_pre_scale"));
  const std::span<const float> given = pre_scale.as<float>();
  for (int i = 0; i < candidates; ++i) {
    const double ratio = static_cast<double>(i) / static_cast<double>(candidates);
    AOQ_ASSIGN(const std::vector<float> factors, awq_candidate(observer, ratio, DType::f32));
    bool is_it = factors.size() == given.size();
    for (std::size_t k = 0; is_it && k < given.size(); ++k) is_it = std::fabs(factors[k] * given[k] - 1) <= 2e-6f;
    if (is_it) return i;
  }
  return -1;
}

// The losses that factors have when each may be 1e-6 off, which the case's tolerance allows: that decides which way the
// ties of the largest weights go.
Result<std::vector<float>> losses_near(const AwqObserver& observer, const AwqLayer& layer,
                                       const std::vector<float>& factors) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> off(-1e-6f, 1e-6f);
  std::vector<float> losses;
  for (int trial = 0; trial < 32; ++trial) {
    std::vector<float> near_factors = factors;
    for (float& f : near_factors) f += f * (trial == 0 ? 0.0f : off(random));
    AOQ_ASSIGN(const float loss, awq_loss(observer, layer, near_factors));
    losses.push_back(loss);
  }
  std::sort(losses.begin(), losses.end());
  return losses;
}

// Another candidate than the case's is right only where the case's tolerance leaves it open which of them is better.
Result<std::vector<float>> awq_factors(Case& c, const AwqObserver& observer, const AwqLayer& layer,
                                       std::int64_t candidates) {
  AOQ_ASSIGN(const AwqSearch found, awq_search(observer, layer, static_cast<int>(candidates)));
  AOQ_ASSIGN(const int given, given_candidate(c, observer, candidates));
  if (given == found.candidate || given < 0) return found.factors;
  const double ratio = static_cast<double>(given) / static_cast<double>(candidates);
  AOQ_ASSIGN(std::vector<float> factors, awq_candidate(observer, ratio, DType::f32));
  AOQ_ASSIGN(const std::vector<float> ours, losses_near(observer, layer, found.factors));
  AOQ_ASSIGN(const std::vector<float> theirs, losses_near(observer, layer, factors));
  if (theirs.front() > ours.back()) {
    c.fail(fmt::format("candidate {} with losses from {} to {}, expected {} with losses from {}", found.candidate,
                       ours.front(), ours.back(), given, theirs.front()));
  }
  return factors;
}

Status awq(Case& c) {
  AOQ_ASSIGN(const LayerCase layer, read_layer(c));
  AOQ_ASSIGN(const std::int64_t candidates, json_integer(c.args(), "search"));
  AOQ_ASSIGN(AwqObserver observer, AwqObserver::make(layer.w.shape()[1]));
  for (const Tensor& batch : layer.calibration) AOQ_TRY(observer.observe(batch.view()));
  AwqLayer site{layer.w.view(), &layer.bias, {}};
  site.quantized_linear = [&](TensorView weight, TensorView x) -> Result<Tensor> {
    AOQ_ASSIGN(const torchao::QuantizedWeight q, layer.quantized(weight));
    return torchao::linear(q, x, &layer.bias);
  };
  AOQ_ASSIGN(const std::vector<float> factors, awq_factors(c, observer, site, candidates));
  return compare_scaled_layer(c, layer, factors);
}

Status smoothquant(Case& c) {
  AOQ_ASSIGN(const LayerCase layer, read_layer(c));
  AOQ_ASSIGN(SmoothQuantObserver observer, SmoothQuantObserver::make(layer.w.shape()[1]));
  for (const Tensor& batch : layer.calibration) AOQ_TRY(observer.observe(batch.view()));
  const double alpha = c.op() == "smoothquant" ? 0.5 : 0.8;
  AOQ_ASSIGN(const std::vector<float> factors, smoothquant_factors(observer, layer.w.view(), alpha));
  return compare_scaled_layer(c, layer, factors);
}

constexpr OpRunner kOpRunners[] = {
    {"torchao.quantize_", &quantize_by_config, ""},
    {"hqq", &hqq, ""},
    {"hqq_scale_only", &hqq_scale_only, ""},
    {"gptq_int8", &gptq_int8, ""},
    {"codebook", &codebook, ""},
    {"awq", &awq, ""},
    {"smoothquant", &smoothquant, ""},
    {"smoothquant_alpha_0.8", &smoothquant, ""},
};

}  // namespace

const Section kAlgorithms{"algorithms", kOpRunners, "this weight algorithm is not built yet"};

}  // namespace aoq::golden
