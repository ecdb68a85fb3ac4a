// A module that is to stay in float, given by its name: it becomes one unit with stubs around it.
#include "docs/examples/fx/example.h"

namespace nn = aoq::nn;

struct Gate : nn::Module {
  using Module::Module;
  const char* type_name() const override { return "Gate"; }
  nn::Proxy forward(const nn::Proxy& x) override { return nn::tanh(x) * 2.0; }
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
  example::randomize(model, 2);
  nn::TraceOptions trace;
  trace.leaf_names = {"gate"};
  aoq::Graph graph = example::check(nn::symbolic_trace(model, {"x", example::float_type({5, 10})}, trace));
  fmt::print("traced:\n{}", aoq::fx::print_fx(graph));
  const aoq::Tensor x = example::random_tensor({5, 10}, 102);
  const aoq::Tensor exact = example::run(graph, x);

  example::Batches data({5, 10}, 4);
  aoq::QuantizeOptions options;
  options.data = &data;
  options.last = aoq::Stage::quantized;
  example::check(aoq::quantize(graph, example::check(aoq::fx::fx_recipe("x86")), options));
  fmt::print("reference-quantized:\n{}", aoq::fx::print_fx(graph));
  example::print_error("int8", example::relative_error(exact, example::run(graph, x)), 0.1);
  return 0;
}
