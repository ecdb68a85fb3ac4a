// The graph that tests of the `.aoq` format write.
#pragma once

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace aoq::test {

inline Tensor patterned(DType dtype, std::vector<std::int64_t> shape, unsigned char first) {
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  for (std::byte& b : t.mutable_bytes()) b = std::byte{first++};
  return t;
}

// Every kind of attribute that the ops here have, symbols, absent inputs, shared and sub-byte constants.
inline Graph sample_graph() {
  Graph g;
  g.name = "sample";
  g.stage = Stage::lowered;
  g.symbols["N"] = {1, 64};
  g.metadata["licence"] = "Apache-2.0";
  g.metadata["classes"] = std::string(3000, 'c');
  Value* x = g.input("x", Type{DType::f32, {Dim::symbol("N"), 4}, std::nullopt});
  Value* w = g.constant(patterned(DType::f32, {4, 4}, 1), nullptr, "fc.weight");
  Value* same = g.constant(patterned(DType::f32, {4, 4}, 1), nullptr, "tied.weight");
  Value* bits = g.constant(patterned(DType::u4, {3, 5}, 9), nullptr, "codes");
  Value* none = g.constant(patterned(DType::i8, {0, 2}, 0));
  Node* linear = g.create(Op::linear, {x, w, nullptr, nullptr}, {{"activation", std::string("relu")}}).value();
  linear->scope = {"encoder.fc", "Linear"};
  linear->origins = {"/fc/MatMul", "/fc/Add"};
  linear->requested = "int8";
  linear->reason = "its weight has 4 rows";
  Value* y = g.create(Op::linear, {linear->output(), same}).value()->output();
  Value* z = g.create(Op::reshape, {y}, {{"shape", std::vector<Dim>{Dim::symbol("N") * Dim(4)}}}).value()->output();
  Value* c =
      g.create(Op::clamp, {z}, {{"min", -0.0}, {"max", std::numeric_limits<double>::infinity()}}).value()->output();
  Value* p = g.create(Op::packed_constant, {},
                      {{"value", patterned(DType::u8, {7}, 3)},
                       {"dtype", DType::i8},
                       {"shape", std::vector<std::int64_t>{2, 3}},
                       {"layout", std::string("rows4")}})
                 .value()
                 ->output();
  REQUIRE(g.output({c, bits, none, p}, {"c", "bits", "none", "p"}).ok());
  return g;
}

}  // namespace aoq::test
