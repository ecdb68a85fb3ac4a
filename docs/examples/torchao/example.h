// What the examples share: weights from a seed, batches, a float layer, and errors in words.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include <fmt/core.h>

#include "ir/interpreter.h"
#include "ir/nn/modules.h"
#include "passes/torchao/quantize_model.h"

namespace example {

// Numbers in [-1, 1) that are the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2654435761u + 12345u) {}
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(state_ >> 40) / 8388608.0f - 1.0f;
  }

 private:
  std::uint64_t state_;
};

// Stops the example with the message of a failed step.
inline void check(const aoq::Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}\n", status.message());
  std::exit(1);
}
template <class T>
T check(aoq::Result<T> result) {
  if (!result.ok()) check(std::move(result).status());
  return std::move(*result);
}

inline aoq::Tensor tensor_of(std::vector<std::int64_t> shape, const std::vector<float>& values, aoq::DType dtype) {
  aoq::Tensor t = check(aoq::Tensor::make(dtype, std::move(shape)));
  aoq::dtype_info(dtype).from_float(values, t.mutable_bytes().data(), 0);
  return t;
}

inline aoq::Result<aoq::Tensor> float_tensor(std::span<const std::int64_t> shape, const std::vector<float>& values) {
  return tensor_of({shape.begin(), shape.end()}, values, aoq::DType::f32);
}

inline aoq::Tensor random_tensor(std::vector<std::int64_t> shape, std::uint64_t seed, aoq::DType dtype,
                                 float scale = 1.0f) {
  Random random(seed);
  std::int64_t count = 1;
  for (std::int64_t extent : shape) count *= extent;
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(scale * random.next());
  return tensor_of(std::move(shape), values, dtype);
}

inline void randomize(aoq::nn::Module& model, std::uint64_t seed, aoq::DType dtype) {
  for (const auto& [name, parameter] : model.parameters()) {
    const std::vector<std::int64_t> shape = parameter->tensor().shape();
    check(parameter->set(random_tensor(shape, seed++, dtype, 0.125f)));
  }
}

class Batches : public aoq::CalibrationData {
 public:
  explicit Batches(std::vector<aoq::Tensor> batches) : batches_(std::move(batches)) {}
  aoq::Result<bool> next(std::vector<aoq::Tensor>& batch) override {
    if (next_ == batches_.size()) return false;
    batch = {batches_[next_++]};
    return true;
  }

 private:
  std::vector<aoq::Tensor> batches_;
  std::size_t next_ = 0;
};

inline std::vector<float> floats_of(const aoq::TensorView& t) {
  std::vector<float> values(static_cast<std::size_t>(t.element_count()));
  aoq::dtype_info(t.dtype).to_float(t.data, 0, values);
  return values;
}

// x [M, K] times weight [N, K] transposed, rounded once.
inline aoq::Tensor float_linear(const aoq::Tensor& x, const aoq::TensorView& weight) {
  const std::vector<float> a = floats_of(x.view()), b = floats_of(weight);
  const auto rows = static_cast<std::size_t>(x.shape()[0]), depth = static_cast<std::size_t>(weight.shape[1]);
  const auto columns = static_cast<std::size_t>(weight.shape[0]);
  std::vector<float> y;
  for (std::size_t m = 0; m < rows; ++m) {
    for (std::size_t n = 0; n < columns; ++n) {
      float sum = 0;
      for (std::size_t k = 0; k < depth; ++k) sum = std::fma(a[m * depth + k], b[n * depth + k], sum);
      y.push_back(sum);
    }
  }
  return tensor_of({x.shape()[0], weight.shape[0]}, y, x.dtype());
}

inline std::int64_t sum_of_codes(const aoq::Tensor& codes) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < codes.element_count(); ++i) {
    sum += aoq::load_integer(codes.dtype(), codes.bytes().data(), i);
  }
  return sum;
}

inline aoq::Tensor run(const aoq::Graph& graph, const aoq::Tensor& x) {
  aoq::ReferenceExecutor executor;
  const std::unique_ptr<aoq::Executable> executable = check(executor.prepare(graph));
  return check(executable->run(std::vector<aoq::Tensor>{x}))[0];
}

inline double relative_error(const aoq::Tensor& exact, const aoq::Tensor& found) {
  const std::vector<float> a = floats_of(exact.view()), b = floats_of(found.view());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = static_cast<double>(a[i]), d = e - static_cast<double>(b[i]);
    error += d * d;
    norm += e * e;
  }
  return std::sqrt(error / norm);
}

// "below 5 %" does not depend on the machine.
inline void print_error(const char* what, double error, double bound) {
  fmt::print("{}: relative error {} {} %\n", what, error < bound ? "below" : "NOT below", bound * 100);
}

}  // namespace example
