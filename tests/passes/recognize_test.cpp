// The rewrites that recognise spelled-out ops: they fire, they leave near misses alone, they fire twice in one graph,
// and they respect a second reader. Every rewritten graph computes what the original did.
#include <doctest/doctest.h>

#include <cmath>

#include "ir/interpreter.h"
#include "passes/rewrite/recognize.h"

namespace aoq {
namespace {

// Writes graphs like formulas.
class Net {
 public:
  Graph graph;

  Value* input(std::vector<Dim> shape, DType dtype = DType::f32) {
    return graph.input("x" + std::to_string(inputs_++), Type{dtype, std::move(shape), std::nullopt});
  }
  Value* number(double v, std::vector<std::int64_t> shape = {}) {
    Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
    for (float& f : t.mutable_as<float>()) f = static_cast<float>(v);
    return graph.constant(std::move(t));
  }
  Value* ramp(std::vector<std::int64_t> shape, float start, float step) {
    Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
    for (float& f : t.mutable_as<float>()) f = std::exchange(start, start + step);
    return graph.constant(std::move(t));
  }
  Value* op(Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
    Result<Node*> n = graph.create(op, std::move(inputs), std::move(attributes));
    CAPTURE(n.status().message());
    REQUIRE(n.ok());
    return (*n)->output();
  }
  Value* add(Value* a, Value* b) { return op(Op::add, {a, b}); }
  Value* sub(Value* a, Value* b) { return op(Op::sub, {a, b}); }
  Value* mul(Value* a, Value* b) { return op(Op::mul, {a, b}); }
  Value* div(Value* a, Value* b) { return op(Op::div, {a, b}); }
  Value* mean(Value* a, std::vector<std::int64_t> axes) {
    return op(Op::reduce_mean, {a}, {{"axes", std::move(axes)}, {"keepdims", true}});
  }
  void output(std::vector<Value*> values) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < values.size(); ++i) names.push_back("y" + std::to_string(i));
    REQUIRE(graph.output(std::move(values), std::move(names)).ok());
  }
  int count(Op op) {
    drop_unused();
    int n = 0;
    for (const Node* node : graph.nodes()) n += node->is(op);
    return n;
  }

 private:
  void drop_unused() {
    for (Node* n = graph.last(); n != nullptr;) {
      Node* previous = n->previous();
      if (!n->is(Op::input) && !n->is(Op::output) && n->output()->uses().empty()) graph.erase(n);
      n = previous;
    }
  }

  int inputs_ = 0;
};

std::vector<Tensor> run(const Graph& graph) {
  std::vector<Tensor> inputs;
  for (const Node* n : graph.input_nodes()) {
    const Type& type = n->output()->type();
    std::vector<std::int64_t> shape;
    for (const Dim& d : type.shape) shape.push_back(d.is_constant() ? d.constant() : 3);
    Tensor t = Tensor::make(type.dtype, shape).value();
    for (std::int64_t i = 0; i < t.element_count(); ++i) {
      double v = is_float(type.dtype) ? std::sin(static_cast<double>(3 * i + 1)) * 3.0 : static_cast<double>(i % 9 - 3);
      store_from_double(type.dtype, t.mutable_bytes().data(), i, v);
    }
    inputs.push_back(std::move(t));
  }
  ReferenceExecutor executor;
  auto executable = executor.prepare(graph);
  REQUIRE(executable.ok());
  auto results = (*executable)->run(inputs, Tap{});
  CAPTURE(results.status().message());
  REQUIRE(results.ok());
  return *results;
}

using Rewrite = Result<bool> (*)(Graph&);

bool apply(Net& net, Rewrite rewrite) {
  std::vector<Tensor> before = run(net.graph);
  Result<bool> changed = rewrite(net.graph);
  CAPTURE(changed.status().message());
  REQUIRE(changed.ok());
  std::vector<Tensor> after = run(net.graph);
  REQUIRE(before.size() == after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    REQUIRE(before[i].shape() == after[i].shape());
    for (std::int64_t k = 0; k < before[i].element_count(); ++k) {
      auto at = static_cast<std::size_t>(k);
      CHECK(after[i].as<float>()[at] == doctest::Approx(before[i].as<float>()[at]).epsilon(1e-5));
    }
  }
  Result<bool> again = rewrite(net.graph);
  REQUIRE(again.ok());
  CHECK_FALSE(*again);  // idempotent
  return *changed;
}

Value* erf_gelu(Net& n, Value* x, double half = 0.5, double root = std::sqrt(2.0)) {
  return n.mul(n.mul(x, n.number(half)), n.add(n.number(1), n.op(Op::erf, {n.div(x, n.number(root))})));
}

Value* tanh_gelu(Net& n, Value* x, double cubic = 0.044715) {
  Value* cube = n.mul(x, n.mul(x, n.mul(n.number(cubic), x)));
  Value* t = n.op(Op::tanh, {n.mul(n.number(std::sqrt(2 / M_PI)), n.add(x, cube))});
  return n.mul(x, n.mul(n.number(0.5), n.add(n.number(1), t)));
}

TEST_CASE("gelu in its spellings") {
  Net n;
  Value* x = n.input({Dim::symbol("n"), 4});
  Value* a = erf_gelu(n, x);
  Value* b = n.mul(n.number(0.5), n.mul(x, n.add(n.op(Op::erf, {n.mul(x, n.number(std::sqrt(0.5)))}), n.number(1))));
  Value* c = n.div(n.mul(x, n.add(n.op(Op::erf, {n.div(x, n.number(std::sqrt(2.0)))}), n.number(1))), n.number(2));
  Value* d = tanh_gelu(n, x);
  Value* cube = n.op(Op::pow, {x, n.number(3)});
  Value* t = n.op(Op::tanh, {n.mul(n.add(x, n.mul(cube, n.number(0.044715))), n.number(std::sqrt(2 / M_PI)))});
  Value* e = n.mul(n.mul(n.number(0.5), x), n.add(t, n.number(1)));
  Value* square = n.add(n.number(1), n.mul(n.number(0.044715), n.mul(x, x)));
  Value* u = n.op(Op::tanh, {n.mul(n.mul(x, n.number(std::sqrt(2 / M_PI))), square)});
  Value* f = n.mul(n.mul(n.number(0.5), x), n.add(u, n.number(1)));
  n.output({a, b, c, d, e, f});
  CHECK(apply(n, recognize_gelu));
  CHECK(n.count(Op::gelu) == 6);
}

TEST_CASE("near misses of gelu stay") {
  Net n;
  Value* x = n.input({4});
  Value* z = n.input({4});
  Value* other =
      n.mul(n.mul(z, n.number(0.5)), n.add(n.number(1), n.op(Op::erf, {n.div(x, n.number(std::sqrt(2.0)))})));
  Value* ranked =
      n.mul(n.mul(x, n.number(0.5, {1, 1})), n.add(n.number(1), n.op(Op::erf, {n.div(x, n.number(std::sqrt(2.0)))})));
  n.output({erf_gelu(n, x, 0.51), erf_gelu(n, x, 0.5, 1.4), tanh_gelu(n, x, 0.0447), other, ranked});
  CHECK_FALSE(apply(n, recognize_gelu));
}

TEST_CASE("a value inside gelu with a second reader keeps it") {
  Net n;
  Value* x = n.input({4});
  Value* inner = n.add(n.number(1), n.op(Op::erf, {n.div(x, n.number(std::sqrt(2.0)))}));
  n.output({n.mul(n.mul(x, n.number(0.5)), inner), inner});
  CHECK_FALSE(apply(n, recognize_gelu));
}

TEST_CASE("two gelus in a row") {
  Net n;
  Value* x = n.input({2, 4});
  n.output({tanh_gelu(n, tanh_gelu(n, x))});
  CHECK(apply(n, recognize_gelu));
  CHECK(n.count(Op::gelu) == 2);
}

TEST_CASE("silu fires twice, and not for another gate or a second reader of it") {
  Net n;
  Value* x = n.input({4});
  Value* z = n.input({4});
  Value* shared = n.op(Op::sigmoid, {z});
  Value* once = n.mul(x, n.op(Op::sigmoid, {x}));
  Value* twice = n.mul(n.op(Op::sigmoid, {once}), once);
  Value* paddle = n.mul(x, n.op(Op::sigmoid, {n.mul(x, n.number(1))}));
  Value* scaled = n.mul(x, n.op(Op::sigmoid, {n.mul(x, n.number(1.702))}));
  n.output({twice, n.mul(x, n.op(Op::sigmoid, {z})), n.mul(z, shared), shared, paddle, scaled});
  CHECK(apply(n, recognize_silu));
  CHECK(n.count(Op::silu) == 3);
}

Value* clamp_gate(Net& n, Value* x, double shift, double high) {
  return n.op(Op::clamp, {n.add(x, n.number(shift))}, {{"min", 0.0}, {"max", high}});
}

TEST_CASE("hard-swish in its spellings") {
  Net n;
  Value* x = n.input({2, 4});
  Value* a = n.div(n.mul(x, clamp_gate(n, x, 3, 6)), n.number(6));
  Value* b = n.mul(x, n.mul(clamp_gate(n, x, 3, 6), n.number(1.0 / 6)));
  Value* c = n.mul(n.op(Op::hardsigmoid, {x}, {{"alpha", 1.0 / 6}, {"beta", 0.5}}), x);
  n.output({a, b, c});
  CHECK(apply(n, recognize_hardswish));
  CHECK(n.count(Op::hardswish) == 3);
}

TEST_CASE("near misses of hard-swish stay") {
  Net n;
  Value* x = n.input({4});
  Value* gate = clamp_gate(n, x, 3, 6);
  Value* c = n.mul(n.op(Op::hardsigmoid, {x}, {{"alpha", 0.2}, {"beta", 0.5}}), x);
  n.output({n.div(n.mul(x, clamp_gate(n, x, 3, 5)), n.number(6)), n.div(n.mul(x, clamp_gate(n, x, 2, 6)), n.number(6)),
            n.div(n.mul(x, clamp_gate(n, x, 3, 6)), n.number(5)), n.div(n.mul(x, gate), n.number(6)), gate, c});
  CHECK_FALSE(apply(n, recognize_hardswish));
}

// (x - mean) / sqrt(mean((x - mean)^2) + eps), as torch exports it.
Value* centered_norm(Net& n, Value* x, std::vector<std::int64_t> axes) {
  Value* d = n.sub(x, n.mean(x, axes));
  Value* variance = n.mean(n.op(Op::pow, {d, n.number(2)}), axes);
  return n.div(d, n.op(Op::sqrt, {n.add(variance, n.number(1e-5))}));
}

// As jax and tf2onnx do: sums, and the variance from the mean of squares.
Value* moments_norm(Net& n, Value* x, std::int64_t axis, Value* weight, double count, double floor = 0.0) {
  Attributes over{{"axes", std::vector<std::int64_t>{axis}}, {"keepdims", false}};
  std::vector<Dim> kept = x->type().shape;
  kept[static_cast<std::size_t>(axis)] = Dim(1);
  Value* mean = n.mul(n.op(Op::reduce_sum, {x}, over), n.number(1.0 / count));
  Value* square = n.mul(n.op(Op::reduce_sum, {n.mul(x, x)}, over), n.number(1.0 / count));
  Value* variance = n.op(Op::maximum, {n.number(floor), n.sub(square, n.mul(mean, mean))});
  Value* v = n.op(Op::reshape, {variance}, {{"shape", kept}});
  Value* inverse = n.op(Op::reciprocal, {n.op(Op::sqrt, {n.add(v, n.number(1e-6))})});
  Value* d = n.sub(x, n.op(Op::reshape, {mean}, {{"shape", kept}}));
  return n.mul(d, n.mul(inverse, weight));
}

TEST_CASE("layer norm as torch exports it, with and without weight and bias") {
  Net n;
  Value* x = n.input({Dim::symbol("n"), 5, 6});
  Value* plain = centered_norm(n, x, {-1});
  Value* weighted = n.mul(centered_norm(n, x, {-1}), n.ramp({6}, 0.5f, 0.25f));
  Value* full = n.add(n.mul(centered_norm(n, x, {2}), n.ramp({6}, 0.5f, 0.25f)), n.ramp({6}, -1, 0.5f));
  Value* biased = n.add(centered_norm(n, x, {1, 2}), n.ramp({5, 6}, -1, 0.1f));
  n.output({plain, weighted, full, biased});
  CHECK(apply(n, recognize_layer_norm));
  CHECK(n.count(Op::layer_norm) == 4);
  CHECK(n.count(Op::sqrt) == 0);
  CHECK(n.count(Op::add) == 0);
}

TEST_CASE("layer norm over an inner axis, as tf2onnx exports it") {
  Net n;
  Value* x = n.input({Dim::symbol("n"), 6, 5});
  n.output({n.add(moments_norm(n, x, 1, n.ramp({1, 6, 1}, 0.5f, 0.25f), 6), n.ramp({1, 6, 1}, -1, 0.5f))});
  CHECK(apply(n, recognize_layer_norm));
  CHECK(n.count(Op::layer_norm) == 1);
  CHECK(n.count(Op::permute) == 2);
  CHECK(n.count(Op::reduce_sum) == 0);
}

TEST_CASE("near misses of layer norm stay") {
  Net n;
  Value* x = n.input({2, 6, 5});
  Value* z = n.input({2, 6, 5});
  Value* weight = n.ramp({1, 6, 1}, 0.5f, 0.25f);
  Value* wrong_axis = n.sub(x, n.mean(x, {1}));
  Value* axes_differ =
      n.div(wrong_axis, n.op(Op::sqrt, {n.add(n.mean(n.mul(wrong_axis, wrong_axis), {2}), n.number(1e-5))}));
  Value* other = n.sub(x, n.mean(z, {2}));
  Value* other_mean = n.div(other, n.op(Op::sqrt, {n.add(n.mean(n.mul(other, other), {2}), n.number(1e-5))}));
  n.output({moments_norm(n, x, 1, weight, 5), moments_norm(n, x, 1, weight, 6, 0.5), axes_differ, other_mean});
  CHECK_FALSE(apply(n, recognize_layer_norm));
}

TEST_CASE("a normalised value with a second reader keeps weight and bias apart") {
  Net n;
  Value* x = n.input({2, 6});
  Value* y = centered_norm(n, x, {1});
  n.output({n.mul(y, n.ramp({6}, 1, 1)), y});
  CHECK(apply(n, recognize_layer_norm));
  CHECK(n.count(Op::layer_norm) == 1);
  CHECK(n.count(Op::mul) == 1);
}

Value* rms(Net& n, Value* x, std::vector<std::int64_t> axes) {
  Value* root = n.op(Op::sqrt, {n.add(n.mean(n.mul(x, x), axes), n.number(1e-5))});
  return n.mul(x, n.op(Op::reciprocal, {root}));
}

TEST_CASE("rms norm with and without weight; not over inner axes, not where it is a layer norm") {
  Net n;
  Value* x = n.input({2, 3, 6});
  Value* fast = n.mul(x, n.op(Op::rsqrt, {n.add(n.mean(n.mul(x, x), {2}), n.number(1e-5))}));
  n.output({rms(n, x, {-1}), n.mul(n.ramp({6}, 1, 1), rms(n, x, {2})), fast, rms(n, x, {1}), centered_norm(n, x, {2})});
  CHECK(apply(n, recognize_rms_norm));
  CHECK(n.count(Op::rms_norm) == 3);
}

TEST_CASE("softmax with and without the maximum") {
  Net n;
  Value* x = n.input({2, 5});
  Attributes over{{"axes", std::vector<std::int64_t>{1}}, {"keepdims", false}};
  auto column = [&](Value* v) { return n.op(Op::reshape, {v}, {{"shape", std::vector<Dim>{2, 1}}}); };
  Value* largest = n.op(Op::maximum, {n.number(-INFINITY), n.op(Op::reduce_max, {x}, over)});
  Value* e = n.op(Op::exp, {n.sub(x, column(largest))});
  Value* by_hand = n.div(e, column(n.op(Op::reduce_sum, {e}, over)));
  Value* f = n.op(Op::exp, {x});
  Value* plain = n.mul(f, n.op(Op::reciprocal, {n.op(Op::reduce_sum, {f}, {{"axes", std::vector<std::int64_t>{0}}})}));
  n.output({by_hand, plain});
  CHECK(apply(n, recognize_softmax));
  CHECK(n.count(Op::softmax) == 2);
  CHECK(n.count(Op::exp) == 0);
}

TEST_CASE("near misses of softmax stay") {
  Net n;
  Value* x = n.input({2, 5});
  Attributes over{{"axes", std::vector<std::int64_t>{1}}};
  Value* e = n.op(Op::exp, {x});
  Value* shared = n.div(e, n.op(Op::reduce_sum, {e}, over));
  Value* f = n.op(Op::exp, {x});
  Value* g = n.op(Op::exp, {n.mul(x, x)});
  Value* both = n.op(Op::exp, {n.sub(x, n.number(1))});
  n.output({shared, e, n.div(f, n.op(Op::reduce_sum, {g}, over)),
            n.div(both, n.op(Op::reduce_sum, {both}, {{"axes", std::vector<std::int64_t>{0, 1}}}))});
  CHECK_FALSE(apply(n, recognize_softmax));
}

Value* compared(Net& n, Value* x, std::int64_t depth, std::int64_t start = 0) {
  Tensor t = Tensor::make(x->type().dtype, {1, depth}).value();
  for (std::int64_t i = 0; i < depth; ++i) store_integer(t.dtype(), t.mutable_bytes().data(), i, i + start);
  return n.op(Op::cast, {n.op(Op::equal, {x, n.graph.constant(std::move(t))})}, {{"dtype", DType::f32}});
}

TEST_CASE("one-hot by comparison, then rows of the matrix behind it") {
  for (DType dtype : {DType::i32, DType::i64, DType::u8}) {
    Net n;
    Value* x = n.input({Dim::symbol("n"), 4, 1}, dtype);
    Value* linear = n.op(Op::linear, {compared(n, x, 5), n.ramp({2, 5}, 1, 1), n.ramp({2}, 0.5f, 1)});
    n.output({linear, n.op(Op::linear, {compared(n, x, 4), n.ramp({3, 4}, 1, 1)})});
    CHECK(apply(n, recognize_one_hot));
    CHECK(n.count(Op::one_hot) == 2);
    CHECK(apply(n, recognize_embedding));
    CHECK(n.count(Op::gather) == 2);
    CHECK(n.count(Op::linear) == 0);
  }
}

TEST_CASE("one-hot itself counts negative indices from the end, and so does the embedding") {
  Net n;
  Value* x = n.input({9}, DType::i64);
  Value* hot = n.op(Op::one_hot, {x}, {{"depth", std::int64_t{2}}});
  n.output({n.op(Op::linear, {hot, n.ramp({3, 2}, 1, 1)})});
  CHECK(apply(n, recognize_embedding));
  CHECK(n.count(Op::gather) == 1);
}

TEST_CASE("near misses of one-hot and embedding stay") {
  Net n;
  Value* x = n.input({4, 1}, DType::i32);
  Value* shared = n.op(Op::one_hot, {x}, {{"depth", std::int64_t{5}}});
  Value* hot = n.op(Op::one_hot, {x}, {{"depth", std::int64_t{5}}, {"on", 2.0}});
  n.output({compared(n, x, 5, 1), n.op(Op::linear, {shared, n.ramp({2, 5}, 1, 1)}), shared,
            n.op(Op::linear, {hot, n.ramp({2, 5}, 1, 1)})});
  CHECK_FALSE(apply(n, recognize_one_hot));
  CHECK_FALSE(apply(n, recognize_embedding));
  Net m;
  Value* y = m.input({4}, DType::i32);
  Value* w = m.number(INFINITY, {2, 5});
  m.output({m.op(Op::linear, {m.op(Op::one_hot, {y}, {{"depth", std::int64_t{5}}}), w})});
  Result<bool> changed = recognize_embedding(m.graph);
  REQUIRE(changed.ok());
  CHECK_FALSE(*changed);
}

}  // namespace
}  // namespace aoq
