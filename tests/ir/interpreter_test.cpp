#include "ir/interpreter.h"

#include "ir/bind.h"
#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

Dim n() {
  return Dim::symbol("N");
}

TEST_CASE("a graph with symbols runs at several sizes") {
  Graph g;
  g.symbols["N"] = {1, 8};
  Value* x = g.input("x", Type{DType::f32, {n(), 2}, std::nullopt});
  Value* flat = (*g.create(Op::reshape, {x}, {{"shape", std::vector<Dim>{n() * Dim(2)}}}))->output();
  Value* size = (*g.create(Op::dims, {}, {{"values", std::vector<Dim>{n(), n() + Dim(1)}}}))->output();
  Value* half =
      (*g.create(Op::slice, {flat},
                 {{"axes", Ints{0}}, {"starts", std::vector<Dim>{n()}}, {"ends", std::vector<Dim>{n() * Dim(2)}}}))
          ->output();
  REQUIRE(g.output({half, size}, {"half", "size"}).ok());
  std::unique_ptr<Executable> e = ReferenceExecutor().prepare(g).value();
  std::vector<Tensor> in{f32({2, 2}, {1, 2, 3, 4})};
  std::vector<Tensor> out = e->run(in).value();
  CHECK(floats(out[0]) == Floats{3, 4});
  CHECK(integers(out[1]) == Ints{2, 3});
  in = {f32({3, 2}, {1, 2, 3, 4, 5, 6})};
  CHECK(floats(e->run(in).value()[0]) == Floats{4, 5, 6});
  in = {f32({9, 2}, Floats(18))};
  CHECK(e->run(in).status().code() == Code::invalid_data);
}

TEST_CASE("inputs that do not fit are refused with what was found and expected") {
  Graph g;
  g.input("x", Type{DType::f32, {n() * Dim(2), 3}, std::nullopt});
  g.input("y", Type{DType::i64, {n()}, std::nullopt});
  auto bind = [&](std::vector<Tensor> inputs) { return bind_symbols(g, inputs); };
  CHECK(bind({f32({4, 3}, Floats(12)), i64({2}, {1, 2})}).value().at("N") == 2);
  CHECK(bind({f32({4, 3}, Floats(12)), i64({3}, {1, 2, 3})}).status().message() ==
        "input \"x\" is f32[4, 3], expected f32[2*N, 3], which has 6 in dimension 0");
  CHECK(!bind({f32({4, 3}, Floats(12))}).ok());
  CHECK(!bind({f32({4, 3}, Floats(12)), f32({2}, {1, 2})}).ok());
  CHECK(!bind({f32({12}, Floats(12)), i64({2}, {1, 2})}).ok());
  CHECK(!bind({f32({0, 3}, {}), i64({0}, {})}).ok());
}

TEST_CASE("a symbol that broadcasting trusted is checked when it runs") {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {n()}, std::nullopt});
  Value* y = (*g.create(Op::add, {x, g.constant(f32({3}, {1, 2, 3}))}))->output();
  REQUIRE(g.output({y}, {"y"}).ok());
  std::unique_ptr<Executable> e = ReferenceExecutor().prepare(g).value();
  std::vector<Tensor> in{f32({1}, {10})};
  CHECK(floats(e->run(in).value()[0]) == Floats{11, 12, 13});
  in = {f32({2}, {10, 20})};
  CHECK(e->run(in).status().code() == Code::invalid_data);
}

TEST_CASE("taps see values, and can stop a run") {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {2}, std::nullopt});
  Value* a = (*g.create(Op::relu, {x}))->output();
  Value* watched = (*g.create(Op::observe, {a}, {{"observer", std::string("minmax")}}))->output();
  std::vector<Tensor> none;
  REQUIRE(g.output({watched, x, watched}, {"y", "x", "again"}).ok());
  std::unique_ptr<Executable> e = ReferenceExecutor().prepare(g).value();
  std::vector<Tensor> in{f32({2}, {-1, 2})};
  int seen = 0;
  Tap tap{{x, a}, [&](const Value& v, TensorView t) -> Status {
            ++seen;
            CHECK(reinterpret_cast<const float*>(t.data)[0] == (&v == x ? -1.0f : 0.0f));
            return {};
          }};
  std::vector<Tensor> out = e->run(in, tap).value();
  CHECK(seen == 2);
  CHECK(floats(out[0]) == Floats{0, 2});
  CHECK(floats(out[1]) == Floats{-1, 2});
  tap.see = [](const Value&, TensorView) { return error(Code::interrupted, "enough"); };
  CHECK(e->run(in, tap).status().code() == Code::interrupted);
}

TEST_CASE("errors name the node") {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {2}, std::nullopt});
  Value* i = g.input("i", Type{DType::i64, {1}, std::nullopt});
  Node* gather = *g.create(Op::gather, {x, i});
  gather->origins = {"embed"};
  REQUIRE(g.output({gather->output()}, {"y"}).ok());
  std::unique_ptr<Executable> e = ReferenceExecutor().prepare(g).value();
  std::vector<Tensor> in{f32({2}, {1, 2}), i64({1}, {5})};
  Status s = e->run(in).status();
  CHECK(s.code() == Code::invalid_data);
  CHECK(s.message() == "node embed (gather): index element 0 is 5, expected a value in [-2, 1]");
  Graph empty;
  CHECK(ReferenceExecutor().prepare(empty).status().code() == Code::invalid_argument);
}

TEST_CASE("results without elements") {
  CHECK(run(Op::relu, {f32({0, 3}, {})}).shape() == Shape{0, 3});
  CHECK(run(Op::conv, {f32({0, 1, 3}, {}), f32({2, 1, 1}, {1, 2}), f32({2}, {0, 0})}).shape() == Shape{0, 2, 3});
  CHECK(run(Op::softmax, {f32({0, 3}, {})}).shape() == Shape{0, 3});
  CHECK(run(Op::gather, {f32({0, 3}, {}), i64({0}, {})}).shape() == Shape{0, 3});
}

}  // namespace
}  // namespace aoq
