// Tensors for the tests of functions on tensors.
#pragma once

#include <random>
#include <vector>

#include "ir/tensor.h"

namespace aoq {

inline Tensor f32_tensor(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return Tensor::from_values<float>(DType::f32, std::move(shape), std::span<const float>(values)).value();
}

inline Tensor normal_tensor(std::vector<std::int64_t> shape, unsigned seed, float deviation = 1.0f) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  for (float& v : t.mutable_as<float>()) v = normal(random);
  return t;
}

inline Tensor as_dtype(const Tensor& f32, DType dtype) {
  Tensor t = Tensor::make(dtype, f32.shape()).value();
  dtype_info(dtype).from_float(f32.as<float>(), t.mutable_bytes().data(), 0);
  return t;
}

inline std::vector<float> floats_of(const Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.element_count()));
  dtype_info(t.dtype()).to_float(t.bytes().data(), 0, values);
  return values;
}

inline std::vector<std::int64_t> integers_of(const Tensor& t) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    values.push_back(load_integer(t.dtype(), t.bytes().data(), i));
  }
  return values;
}

}  // namespace aoq
