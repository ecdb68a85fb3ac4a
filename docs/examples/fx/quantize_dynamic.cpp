// quantize_dynamic on a LeNet-like model: linear layers get int8 weights, scales of activations are chosen while it
// runs, convolutions stay in float. No data is needed.
#include "docs/examples/fx/example.h"

namespace nn = aoq::nn;

struct LeNet : nn::Module {
  nn::Conv2d conv1{at("conv1"), 1, 6, {5}};
  nn::Conv2d conv2{at("conv2"), 6, 16, {5}};
  nn::Linear fc1{at("fc1"), 16 * 4 * 4, 120};
  nn::Linear fc2{at("fc2"), 120, 84};
  nn::Linear fc3{at("fc3"), 84, 10};
  const char* type_name() const override { return "LeNet"; }
  nn::Proxy forward(const nn::Proxy& x) override {
    nn::Proxy y = nn::F::max_pool(nn::F::relu(conv1(x)), {2});
    y = nn::F::max_pool(nn::F::relu(conv2(y)), {2});
    y = nn::flatten(y, 1);
    return fc3(nn::F::relu(fc2(nn::F::relu(fc1(y)))));
  }
};

int main() {
  LeNet model;
  example::randomize(model, 5);
  aoq::Graph graph = example::check(nn::symbolic_trace(model, {"x", example::float_type({2, 1, 28, 28})}));
  const aoq::Tensor x = example::random_tensor({2, 1, 28, 28}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::check(aoq::quantize_dynamic(graph, {"Linear"}));
  example::print_ops(graph);
  example::print_error("dynamic int8", example::relative_error(exact, example::run(graph, x)), 0.05);
  const aoq::Status wrong = aoq::quantize_dynamic(graph, {"Conv4d"});
  fmt::print("unknown type: {}\n", wrong.message());
  return 0;
}
