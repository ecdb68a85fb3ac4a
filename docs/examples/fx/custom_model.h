// The model of the custom module examples: a linear layer, then the user's module.
#pragma once

#include "docs/examples/fx/example.h"
#include "docs/examples/fx/limited_linear.h"
#include "formats/aoq/aoq.h"
#include "ir/nn/region_module.h"

namespace example {

struct CustomModel : aoq::nn::Module {
  aoq::nn::Linear linear{at("linear"), 10, 12};
  aoq::nn::RegionModule limited{at("limited"), "LimitedLinear", "acme.LimitedLinear"};
  CustomModel() {
    limited.add_state("weight", {6, 12});
    limited.add_state("bias", {6});
  }
  const char* type_name() const override { return "CustomModel"; }
  aoq::nn::Proxy forward(const aoq::nn::Proxy& x) override { return limited(linear(x)); }
};

// The graph written to .aoq bytes and read again: the file holds the class's name and state, the program its code.
inline aoq::Graph saved_and_reloaded(const aoq::Graph& graph) {
  // The weights of the graph that is read lie in these bytes, which it keeps alive.
  const auto file = std::make_shared<const std::vector<std::byte>>(check(aoq::write_aoq(graph)));
  fmt::print("saved and reloaded\n");
  return check(aoq::read_aoq(*file, file));
}

}  // namespace example
