// A model whose forward decides by its data. Only the two submodules are traced and quantized; the decision stays in
// the host's own code between them.
#include "docs/examples/fx/example.h"

namespace nn = aoq::nn;

struct Encoder : nn::Module {
  using Module::Module;
  nn::Linear in{at("in"), 12, 20};
  nn::ReLU relu{at("relu")};
  nn::Linear out{at("out"), 20, 12};
  const char* type_name() const override { return "Encoder"; }
  nn::Proxy forward(const nn::Proxy& x) override { return out(relu(in(x))); }
};

struct Model : nn::Module {
  Encoder encoder{at("encoder")};
  nn::Linear head{at("head"), 12, 4};
  const char* type_name() const override { return "Model"; }
};

// Float or int8, the host runs the parts in the same way.
aoq::Tensor forward(const aoq::Graph& encoder, const aoq::Graph& head, const aoq::Tensor& x) {
  aoq::Tensor y = example::run(encoder, x);
  double sum = 0;
  for (float v : y.as<float>()) sum += static_cast<double>(v);
  if (sum < 0) {
    for (float& v : y.mutable_as<float>()) v = -v;
  }
  return example::run(head, y);
}

int main() {
  Model model;
  example::randomize(model, 1);
  const nn::TraceInput input{"x", example::float_type({5, 12})};
  aoq::Graph encoder = example::check(nn::symbolic_trace(model.encoder, input));
  aoq::Graph head = example::check(nn::symbolic_trace(model.head, input));
  const aoq::Tensor x = example::random_tensor({5, 12}, 102);
  const aoq::Tensor exact = forward(encoder, head, x);

  const aoq::Recipe recipe = example::check(aoq::fx::fx_recipe("fbgemm"));
  for (aoq::Graph* part : {&encoder, &head}) {
    example::Batches data({5, 12}, 4);
    aoq::QuantizeOptions options;
    options.data = &data;
    example::check(aoq::quantize(*part, recipe, options));
    example::print_ops(*part);
  }
  example::print_error("int8", example::relative_error(exact, forward(encoder, head, x)), 0.1);
  return 0;
}
