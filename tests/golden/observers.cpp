// Section "observers": batches in, state and qparams out.
#include <cmath>

#include "passes/quantize/affine_observers.h"
#include "passes/quantize/observer.h"
#include "tests/golden/sections.h"

namespace aoq::golden {
namespace {

struct Named {
  std::string_view golden;
  std::string_view ours;
};

constexpr Named kKinds[] = {
    {"torch.ao.quantization.MinMaxObserver", "min_max"},
    {"torch.ao.quantization.MovingAverageMinMaxObserver", "moving_average_min_max"},
    {"torch.ao.quantization.PerChannelMinMaxObserver", "per_channel_min_max"},
    {"torch.ao.quantization.MovingAveragePerChannelMinMaxObserver", "moving_average_per_channel_min_max"},
    {"torch.ao.quantization.HistogramObserver", "histogram"},
    {"torch.ao.quantization.FixedQParamsObserver", "fixed_qparams"},
    {"torchao.AffineQuantizedMinMaxObserver", "affine_min_max"},
    {"torchao.AffineQuantizedMSEObserver", "affine_mse"},
};
constexpr Named kMappings[] = {{"ASYMMETRIC", "asymmetric"},
                               {"SYMMETRIC", "symmetric"},
                               {"SYMMETRIC_NO_CLIPPING_ERR", "symmetric_no_clipping_error"}};

// The golden arguments in the words of our spec's JSON form; "set" only names the input.
Result<ObserverSpec> spec_of(const Case& c) {
  Json json = Json::object();
  for (const Named& k : kKinds) {
    if (k.golden == c.op()) json["kind"] = k.ours;
  }
  for (const auto& [key, value] : c.args().items()) {
    if (key == "set" || key == "scale_dtype" || key == "zero_point_dtype") continue;
    json[key] = value.is_number() && key != "quant_min" && key != "quant_max" && key != "ch_axis" && key != "bins" &&
                        key != "steps" && key != "zero_point"
                    ? Json(hex_float(value.get<double>()))
                    : value;
  }
  if (const Json* dtype = json_find(c.args(), "dtype")) {
    AOQ_ASSIGN(const DType d, dtype_of(dtype->get<std::string>()));
    json["dtype"] = dtype_name(d);
  }
  for (const Named& m : kMappings) {
    if (json.contains("mapping") && json["mapping"] == m.golden) {
      json["mapping"] = m.ours;
      break;
    }
  }
  return spec_from_json(json);
}

// Two steps of the line search whose losses differ by less than 1e-6 may be exchanged: is that what happened here?
Result<bool> is_exchanged_step(Case& c, const Observer& observer, const Tensor& batch) {
  AOQ_ASSIGN(const Tensor min, c.output("min_val"));
  AOQ_ASSIGN(const Tensor max, c.output("max_val"));
  AOQ_ASSIGN(const std::vector<float> expected,
             affine_mse_losses(observer.spec(), batch.view(), min.as<float>(), max.as<float>()));
  AOQ_ASSIGN(const std::vector<float> found,
             affine_mse_losses(observer.spec(), batch.view(), observer.state().min, observer.state().max));
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::fabs(expected[i] - found[i]) > 1e-6f * std::fabs(expected[i])) return false;
  }
  return true;
}

Status run_observer(Case& c) {
  AOQ_ASSIGN(const ObserverSpec spec, spec_of(c));
  AOQ_ASSIGN(std::unique_ptr<Observer> observer, make_observer(spec));
  AOQ_ASSIGN(const std::vector<Tensor> batches, c.inputs("batches"));
  for (const Tensor& batch : batches) AOQ_TRY(observer->observe(batch.view()));
  AOQ_ASSIGN(const QParams q, observer->qparams());
  if (c.has_output("min_val")) c.equal("min_val", observer->state().min);
  if (c.has_output("max_val")) c.equal("max_val", observer->state().max);
  if (!c.failures().empty() && spec.kind == "affine_mse") {
    AOQ_ASSIGN(const bool is_exchanged, is_exchanged_step(c, *observer, batches.back()));
    if (is_exchanged) c.forgive();
    return {};
  }
  c.equal("scale", q.scale);
  if (q.float_zero_point.empty()) {
    c.equal("zero_point", q.zero_point);
  } else {
    c.equal("zero_point", q.float_zero_point);
  }
  if (c.has_output("histogram")) c.equal("histogram", observer->state().histogram);
  // A saved observer goes on where this one is.
  AOQ_ASSIGN(std::unique_ptr<Observer> copy, observer_from_json(observer_to_json(*observer)));
  AOQ_ASSIGN(const QParams again, copy->qparams());
  if (again.scale != q.scale || again.zero_point != q.zero_point) c.fail("the observer saved and read again differs");
  return {};
}

constexpr OpRunner kOpRunners[] = {
    {kKinds[0].golden, &run_observer, ""}, {kKinds[1].golden, &run_observer, ""}, {kKinds[2].golden, &run_observer, ""},
    {kKinds[3].golden, &run_observer, ""}, {kKinds[4].golden, &run_observer, ""}, {kKinds[5].golden, &run_observer, ""},
    {kKinds[6].golden, &run_observer, ""}, {kKinds[7].golden, &run_observer, ""},
};

}  // namespace

const Section kObservers{"observers", kOpRunners, "no such observer is built yet"};

}  // namespace aoq::golden
