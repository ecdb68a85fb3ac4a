// Runs single ops on literal tensors: what the op tests share.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "ir/interpreter.h"

namespace aoq {

using Shape = std::vector<std::int64_t>;
using Ints = std::vector<std::int64_t>;
using Floats = std::vector<float>;

template <typename T>
Tensor tensor_of(DType dtype, Shape shape, const std::vector<T>& values) {
  Result<Tensor> t = Tensor::from_values<T>(dtype, std::move(shape), values);
  REQUIRE(t.ok());
  return std::move(t).value();
}
inline Tensor f32(Shape shape, const Floats& values) {
  return tensor_of(DType::f32, std::move(shape), values);
}
inline Tensor i64(Shape shape, const Ints& values) {
  return tensor_of(DType::i64, std::move(shape), values);
}
inline Tensor i32(Shape shape, const std::vector<std::int32_t>& v) {
  return tensor_of(DType::i32, std::move(shape), v);
}
inline Tensor u8(Shape shape, const std::vector<std::uint8_t>& v) {
  return tensor_of(DType::u8, std::move(shape), v);
}
inline Tensor i8(Shape shape, const std::vector<std::int8_t>& v) {
  return tensor_of(DType::i8, std::move(shape), v);
}
inline Tensor boolean(Shape shape, const std::vector<std::uint8_t>& v) {
  return tensor_of(DType::boolean, std::move(shape), v);
}

// Waves around 0 that no two indices share: data for comparisons of two formulations.
inline Tensor wave(Shape shape, float frequency, float amplitude = 1.0f) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  std::span<float> v = t.mutable_as<float>();
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = amplitude * std::sin(frequency * static_cast<float>(i + 1));
  return t;
}

using Operands = std::vector<std::optional<Tensor>>;

// The results of one node; errors of inference and of the reference alike.
inline Result<std::vector<Tensor>> run_op(Op op, const Operands& operands, Attributes attributes = {}) {
  Graph graph;
  std::vector<Value*> values;
  std::vector<Tensor> tensors;
  for (const std::optional<Tensor>& t : operands) {
    values.push_back(t ? graph.constant(*t) : nullptr);
    tensors.push_back(t.value_or(Tensor()));
  }
  Result<Node*> node = graph.create(op, values, std::move(attributes));
  if (!node.ok()) return std::move(node).status();
  tensors.resize((*node)->inputs().size());
  return evaluate_node(**node, tensors);
}
inline Tensor run(Op op, const Operands& operands, Attributes attributes = {}) {
  Result<std::vector<Tensor>> r = run_op(op, operands, std::move(attributes));
  INFO(op_name(op), ": ", r.status().message());
  REQUIRE(r.ok());
  return r->at(0);
}
inline Code code_of(Op op, const Operands& operands, Attributes attributes = {}) {
  return run_op(op, operands, std::move(attributes)).status().code();
}

inline Ints integers(const Tensor& t) {
  Ints out;
  for (std::int64_t i = 0; i < t.element_count(); ++i) out.push_back(load_integer(t.dtype(), t.bytes().data(), i));
  return out;
}
inline Floats floats(const Tensor& t) {
  Floats out;
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    out.push_back(static_cast<float>(load_as_double(t.dtype(), t.bytes().data(), i)));
  }
  return out;
}
inline void check_near(const Tensor& found, const Floats& expected, float tolerance) {
  Floats values = floats(found);
  REQUIRE(values.size() == expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    CHECK(values[i] == doctest::Approx(expected[i]).epsilon(0).scale(1).epsilon(tolerance));
  }
}

}  // namespace aoq
