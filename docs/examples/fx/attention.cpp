// Self attention. Shapes are known while tracing, so transpose_for_scores reads as it would in Python.
#include "docs/examples/fx/example.h"

namespace nn = aoq::nn;

struct SelfAttention : nn::Module {
  SelfAttention(nn::Slot slot, std::int64_t hidden, std::int64_t head_count)
      : Module(std::move(slot)),
        heads(head_count),
        width(hidden / head_count),
        query(at("query"), hidden, hidden),
        key(at("key"), hidden, hidden),
        value(at("value"), hidden, hidden),
        dense(at("dense"), hidden, hidden) {}
  const char* type_name() const override { return "SelfAttention"; }

  nn::Proxy transpose_for_scores(const nn::Proxy& x) const {
    nn::Shape shape = x.sizes();
    shape.pop_back();
    shape.insert(shape.end(), {heads, width});
    return x.view(shape).permute({0, 2, 1, 3});
  }

  nn::Proxy forward(const nn::Proxy& x) override {
    const nn::Proxy q = transpose_for_scores(query(x)), k = transpose_for_scores(key(x)),
                    v = transpose_for_scores(value(x));
    const nn::Proxy scores = nn::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(width));
    const nn::Proxy context = nn::matmul(nn::F::softmax(scores, -1), v).permute({0, 2, 1, 3});
    return dense(context.reshape({context.size(0), context.size(1), heads * width}));
  }

  std::int64_t heads, width;
  nn::Linear query, key, value, dense;
};

int main() {
  SelfAttention attention({}, 16, 4);
  example::randomize(attention, 4);
  aoq::Graph graph = example::check(nn::symbolic_trace(attention, {"x", example::float_type({2, 6, 16})}));
  fmt::print("traced:\n{}", aoq::fx::print_fx(graph));
  const aoq::Tensor x = example::random_tensor({2, 6, 16}, 102);
  const aoq::Tensor exact = example::run(graph, x);
  example::Batches data({2, 6, 16}, 4);
  aoq::QuantizeOptions options;
  options.data = &data;
  example::check(aoq::quantize(graph, example::check(aoq::fx::fx_recipe("x86")), options));
  example::print_error("int8", example::relative_error(exact, example::run(graph, x)), 0.1);
  return 0;
}
