// A class of modules that is to stay in float, given in the recipe: the graph was traced through it, and its nodes
// become one unit again.
#include "docs/examples/fx/example.h"

namespace nn = aoq::nn;

struct Gate : nn::Module {
  using Module::Module;
  nn::Linear mix{at("mix"), 14, 14};
  const char* type_name() const override { return "Gate"; }
  nn::Proxy forward(const nn::Proxy& x) override { return nn::tanh(mix(x)) * x; }
};

struct Model : nn::Module {
  nn::Linear first{at("first"), 10, 14};
  Gate gate{at("gate")};
  nn::Linear last{at("last"), 14, 4};
  const char* type_name() const override { return "Model"; }
  nn::Proxy forward(const nn::Proxy& x) override { return last(gate(first(x))); }
};

int main() {
  Model model;
  example::randomize(model, 3);
  aoq::Graph graph = example::check(nn::symbolic_trace(model, {"x", example::float_type({5, 10})}));
  const aoq::Recipe recipe =
      example::check(aoq::parse_recipe(R"({"backend": "x86", "non_traceable_module_class": ["Gate"]})"));
  const aoq::Tensor x = example::random_tensor({5, 10}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::Batches data({5, 10}, 4);
  aoq::QuantizeOptions options;
  options.data = &data;
  options.last = aoq::Stage::prepared;
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("prepared:\n{}", aoq::fx::print_fx(graph));
  options.last = aoq::Stage::lowered;
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("lowered:\n");
  example::print_ops(graph);
  example::print_error("int8", example::relative_error(exact, example::run(graph, x)), 0.1);
  return 0;
}
