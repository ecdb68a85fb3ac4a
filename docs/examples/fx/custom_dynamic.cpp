// The same custom module, dynamically quantized and with int8 weights only.
#include "docs/examples/fx/custom_model.h"

namespace {

void quantize(const char* mode, const char* quantized, const char* qconfig) {
  example::CustomModel model;
  example::randomize(model, 8);
  aoq::Graph graph = example::check(aoq::nn::symbolic_trace(model, {"x", example::float_type({5, 10})}));
  const aoq::Recipe recipe = example::check(aoq::parse_recipe(fmt::format(
      R"({{"backend": "fbgemm", "mode": "{0}", "global": null,
          "object_type": [["LimitedLinear", "{2}"], ["Linear", "default_dynamic_qconfig"]],
          "custom_modules": [{{"mode": "{0}", "float": "acme.LimitedLinear",
                               "observed": "acme.UnobservedLimitedLinear", "quantized": "{1}"}}]}})",
      mode, quantized, qconfig)));
  const aoq::Tensor x = example::random_tensor({5, 10}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::check(aoq::quantize(graph, recipe));
  const aoq::Graph again = example::saved_and_reloaded(graph);
  example::print_ops(again);
  example::print_error(mode, example::relative_error(exact, example::run(again, x)), 0.1);
}

}  // namespace

int main() {
  example::check(acme::register_limited_linear());
  quantize("dynamic", "acme.DynamicLimitedLinear", "default_dynamic_qconfig");
  quantize("weight-only", "acme.WeightOnlyLimitedLinear", "per_channel_dynamic_qconfig");
  return 0;
}
