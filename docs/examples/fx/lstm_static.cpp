// An LSTM as a custom module, statically quantized: every value inside it has a scale of its own.
#include "docs/examples/fx/example.h"
#include "formats/aoq/aoq.h"
#include "ir/nn/recurrent.h"

namespace nn = aoq::nn;

struct Tagger : nn::Module {
  nn::LSTM lstm{at("lstm"), 8, 16, {.layers = 2, .batch_first = true, .bidirectional = true}};
  nn::Linear tags{at("tags"), 32, 5};
  const char* type_name() const override { return "Tagger"; }
  nn::Proxy forward(const nn::Proxy& x) override { return tags(lstm(x)); }
};

int main() {
  Tagger model;
  example::randomize(model, 9);
  aoq::Graph graph = example::check(nn::symbolic_trace(model, {"x", example::float_type({3, 12, 8})}));
  const aoq::Recipe recipe = example::check(aoq::parse_recipe(R"({
    "backend": "fbgemm",
    "custom_modules": [{"mode": "static", "float": "LSTM", "observed": "quantizable.LSTM",
                        "quantized": "quantized.LSTM"}]})"));
  const aoq::Tensor x = example::random_tensor({3, 12, 8}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::Batches data({3, 12, 8}, 4);
  aoq::Ranges ranges;
  aoq::QuantizeOptions options;
  options.data = &data;
  options.ranges = &ranges;
  options.last = aoq::Stage::prepared;
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("prepared:\n{}", aoq::fx::print_fx(graph));
  options.last = aoq::Stage::quantized;
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("observers:\n");
  for (const auto& [name, observer] : ranges.observers) fmt::print("  {}\n", name);
  fmt::print("reference-quantized:\n{}", aoq::fx::print_fx(graph));
  options.last = aoq::Stage::lowered;
  example::check(aoq::quantize(graph, recipe, options));
  const auto file = std::make_shared<const std::vector<std::byte>>(example::check(aoq::write_aoq(graph)));
  const aoq::Graph again = example::check(aoq::read_aoq(*file, file));
  fmt::print("lowered, saved and reloaded:\n");
  example::print_ops(again);
  example::print_error("static int8", example::relative_error(exact, example::run(again, x)), 0.1);
  return 0;
}
