// By hand: QuantStub and DeQuantStub say where codes begin and end; an Observer on its own learns the scale of
// anything.
#include "docs/examples/fx/example.h"
#include "passes/quantize/primitives.h"

namespace nn = aoq::nn;

struct Model : nn::Module {
  nn::QuantStub quant{at("quant")};
  nn::Conv2d conv{at("conv"), 3, 8, {3}};
  nn::ReLU relu{at("relu")};
  nn::DeQuantStub dequant{at("dequant")};
  nn::Linear head{at("head"), 8, 4};  // behind the stubs: float
  const char* type_name() const override { return "Model"; }
  nn::Proxy forward(const nn::Proxy& x) override {
    const nn::Proxy y = dequant(relu(conv(quant(x))));
    return head(y.mean({2, 3}));
  }
};

int main() {
  Model model;
  example::randomize(model, 6);
  aoq::Graph graph = example::check(nn::symbolic_trace(model, {"x", example::float_type({2, 3, 8, 8})}));
  const aoq::Tensor x = example::random_tensor({2, 3, 8, 8}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::Batches data({2, 3, 8, 8}, 4);
  aoq::QuantizeOptions options;
  options.data = &data;
  options.last = aoq::Stage::quantized;
  const aoq::Recipe recipe = example::check(aoq::fx::fx_recipe("qnnpack"));
  example::check(aoq::quantize(graph, recipe, options));
  fmt::print("{}", aoq::fx::print_fx(graph));
  example::print_error("int8 between the stubs", example::relative_error(exact, example::run(graph, x)), 0.1);

  // An observer without a graph.
  aoq::ObserverSpec spec;
  spec.kind = "min_max";
  const std::unique_ptr<aoq::Observer> observer = example::check(aoq::make_observer(spec));
  for (std::uint64_t i = 0; i < 4; ++i) example::check(observer->observe(example::random_tensor({64}, i).view()));
  const aoq::QParams q = example::check(observer->qparams());
  const aoq::Tensor codes = example::check(aoq::quantize_tensor(example::random_tensor({64}, 1).view(), q));
  const aoq::Tensor back = example::check(aoq::dequantize_tensor(codes.view(), q));
  example::print_error("observed by hand", example::relative_error(example::random_tensor({64}, 1), back), 0.01);
  return 0;
}
