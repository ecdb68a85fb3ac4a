// A custom module in float, observed and quantized form, statically quantized.
#include "docs/examples/fx/custom_model.h"

int main() {
  example::check(acme::register_limited_linear());
  example::CustomModel model;
  example::randomize(model, 8);
  aoq::Graph graph = example::check(aoq::nn::symbolic_trace(model, {"x", example::float_type({5, 10})}));
  const aoq::Recipe recipe = example::check(aoq::parse_recipe(R"({
    "backend": "fbgemm",
    "custom_modules": [{"mode": "static", "float": "acme.LimitedLinear", "observed": "acme.ObservedLimitedLinear",
                        "quantized": "acme.QuantizedLimitedLinear"}]})"));
  const aoq::Tensor x = example::random_tensor({5, 10}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::Batches data({5, 10}, 4);
  aoq::QuantizeOptions options;
  options.data = &data;
  options.last = aoq::Stage::prepared;
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("prepared:\n{}", aoq::fx::print_fx(graph));
  options.last = aoq::Stage::quantized;
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("reference-quantized:\n{}", aoq::fx::print_fx(graph));
  options.last = aoq::Stage::lowered;
  example::check(aoq::quantize(graph, recipe, options));
  const aoq::Graph again = example::saved_and_reloaded(graph);
  example::print_ops(again);
  example::print_error("static int8", example::relative_error(exact, example::run(again, x)), 0.1);
  return 0;
}
