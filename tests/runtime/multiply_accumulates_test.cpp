#include "runtime/multiply_accumulates.h"

#include <doctest/doctest.h>

#include <limits>

#include "runtime/model.h"
#include "runtime/reference_backend.h"
#include "runtime/session.h"

namespace aoq {
namespace {

Value* floats(Graph& g, std::vector<std::int64_t> shape) {
  return g.constant(Tensor::make(DType::f32, std::move(shape)).value());
}

// The products of one op on an input of this shape, planned with the reference. `operands` are the shapes behind it.
std::uint64_t macs_of(Op op, std::vector<std::int64_t> x, std::vector<std::vector<std::int64_t>> operands,
                      Attributes attributes = {}) {
  Graph g;
  std::vector<Value*> inputs{g.input("x", Type{DType::f32, {x.begin(), x.end()}, std::nullopt})};
  for (std::vector<std::int64_t>& shape : operands) inputs.push_back(floats(g, std::move(shape)));
  Result<Node*> node = g.create(op, std::move(inputs), std::move(attributes));
  REQUIRE_MESSAGE(node.ok(), node.status().message());
  REQUIRE(g.output({(*node)->output(0)}, {"y"}).ok());
  ModelOptions options;
  options.backends = {std::make_shared<ReferenceBackend>()};
  options.threads = 1;
  Result<std::shared_ptr<const Model>> model = Model::from_graph(std::move(g), options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  Session session = Session::create(*model).value();
  Result<PlanInfo> info = session.describe({std::move(x)});
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  REQUIRE(info->steps.size() == 1);
  return info->steps[0].macs;
}

TEST_CASE("products of convolutions are counted over their filters") {
  // 2 samples, 8 channels of 5 x 4, padding of one, 3 x 3 filters of 6 channels.
  const Attributes padded{{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}};
  CHECK(macs_of(Op::conv, {2, 6, 5, 4}, {{8, 6, 3, 3}}, padded) == 2 * 8 * 5 * 4 * 6 * 9);
  const Attributes grouped{{"groups", std::int64_t{6}}};
  CHECK(macs_of(Op::conv, {1, 6, 5, 4}, {{6, 1, 3, 3}}, grouped) == 6 * 3 * 2 * 9);
  const Attributes strided{{"stride", std::vector<std::int64_t>{2, 2}}};
  CHECK(macs_of(Op::conv, {1, 3, 9, 9}, {{4, 3, 1, 1}, {4}}, strided) == 4 * 5 * 5 * 3);
  CHECK(macs_of(Op::conv_transpose, {2, 6, 5, 4}, {{6, 7, 2, 2}}) == 2 * 6 * 5 * 4 * 7 * 4);
}

TEST_CASE("products of matrices are counted over the dimension they share") {
  CHECK(macs_of(Op::linear, {5, 3, 16}, {{7, 16}, {7}}) == 5 * 3 * 7 * 16);
  CHECK(macs_of(Op::matmul, {2, 3, 4, 8}, {{2, 3, 8, 5}}) == 2 * 3 * 4 * 5 * 8);
}

TEST_CASE("recurrent layers meet both matrices in every step") {
  const Attributes hidden{{"hidden", std::int64_t{3}}};
  CHECK(macs_of(Op::lstm, {7, 2, 5}, {{1, 12, 5}, {1, 12, 3}}, hidden) == 7 * 2 * 12 * (5 + 3));
}

TEST_CASE("attention multiplies queries with keys and weights with values") {
  Graph g;
  const auto input = [&](const char* name, std::vector<Dim> shape) {
    return g.input(name, Type{DType::f32, std::move(shape), std::nullopt});
  };
  Value *q = input("q", {2, 5, 3, 8}), *k = input("k", {2, 7, 3, 8}), *v = input("v", {2, 7, 3, 6});
  const Node* node = g.create(Op::attention, {q, k, v}).value();
  const std::vector<ConcreteType> inputs{
      {DType::f32, {2, 5, 3, 8}}, {DType::f32, {2, 7, 3, 8}}, {DType::f32, {2, 7, 3, 6}}};
  const std::vector<ConcreteType> outputs{{DType::f32, {2, 5, 3, 6}}};
  CHECK(multiply_accumulates(*node, inputs, outputs) == 2 * 3 * 5 * 7 * (8 + 6));
}

TEST_CASE("ops without sums of products have none") {
  CHECK(macs_of(Op::relu, {4, 4}, {}) == 0);
  CHECK(macs_of(Op::add, {4, 4}, {{4, 4}}) == 0);
  CHECK(macs_of(Op::layer_norm, {4, 6}, {{6}, {6}}) == 0);
  CHECK(macs_of(Op::layer_norm, {4, 6, 2}, {{6, 2}, {6, 2}}, {{"axis", std::int64_t{1}}}) == 0);
  CHECK(macs_of(Op::batch_norm, {2, 3, 4, 4}, {{3}, {3}, {3}, {3}}) == 0);
  CHECK(macs_of(Op::softmax, {4, 6}, {}) == 0);
}

TEST_CASE("a number that is too large is the largest") {
  Graph g;
  const std::int64_t n = std::int64_t{1} << 32;
  Value* x = g.input("x", Type{DType::f32, {2, 2}, std::nullopt});
  const Node* node = g.create(Op::matmul, {x, x}, {}).value();
  const std::vector<ConcreteType> inputs{{DType::f32, {n, n}}, {DType::f32, {n, n}}};
  const std::vector<ConcreteType> outputs{{DType::f32, {n, n}}};
  CHECK(multiply_accumulates(*node, inputs, outputs) == std::numeric_limits<std::uint64_t>::max());
}

}  // namespace
}  // namespace aoq
