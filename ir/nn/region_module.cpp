#include "ir/nn/region_module.h"

namespace aoq::nn {

Parameter& RegionModule::add_state(const std::string& name, std::vector<std::int64_t> shape, DType dtype) {
  state_.push_back(std::make_unique<Parameter>(*this, name, std::move(shape), dtype));
  return *state_.back();
}

Proxies RegionModule::run(const Proxies& inputs) {
  if (inputs.empty() || inputs[0].tracer() == nullptr) return {Proxy()};
  Tracer* tracer = inputs[0].tracer();
  Proxies all = inputs;
  for (const std::unique_ptr<Parameter>& p : state_) all.push_back(tracer->parameter(*p));
  return tracer->emit_all(Op::region, all, {{"class", class_}, {"settings", settings_}});
}

Proxies RegionModule::operator()(const Proxies& inputs) {
  Tracer::Entered entered(inputs.empty() ? nullptr : inputs[0].tracer(), *this);
  return run(inputs);
}

}  // namespace aoq::nn
