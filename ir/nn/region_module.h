// A module whose forward is a custom region (ir/region.h): code that cannot be traced, one node of the graph.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/nn/module.h"

namespace aoq::nn {

class RegionModule : public Module {
 public:
  // `region_class` must be registered when it is traced. `settings` is what the class reads.
  RegionModule(Slot slot, std::string type_name, std::string region_class, std::string settings = {})
      : Module(std::move(slot)),
        type_name_(std::move(type_name)),
        class_(std::move(region_class)),
        settings_(std::move(settings)) {}
  const char* type_name() const override { return type_name_.c_str(); }
  bool is_leaf() const override { return true; }

  // State becomes constant inputs of the node, behind the data, in the order of these calls.
  Parameter& add_state(const std::string& name, std::vector<std::int64_t> shape, DType dtype = DType::f32);

  Proxy forward(const Proxy& x) override { return run({x})[0]; }
  using Module::operator();
  // Several inputs and results.
  Proxies operator()(const Proxies& inputs);

 private:
  Proxies run(const Proxies& inputs);

  std::string type_name_, class_, settings_;
  std::vector<std::unique_ptr<Parameter>> state_;
};

}  // namespace aoq::nn
