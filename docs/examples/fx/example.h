// What the examples share: weights from a seed, batches, and a relative error in words.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "ir/interpreter.h"
#include "ir/nn/modules.h"
#include "passes/fx/workflow.h"
#include "passes/quantize/quantize.h"

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

inline void randomize(aoq::nn::Module& model, std::uint64_t seed) {
  Random random(seed);
  for (const auto& [name, parameter] : model.parameters()) {
    aoq::Tensor t = parameter->tensor();
    if (t.dtype() != aoq::DType::f32) continue;
    const std::int64_t fan_in = t.shape().size() > 1 ? t.element_count() / t.shape()[0] : 4;
    for (float& v : t.mutable_as<float>()) v = random.next() / std::sqrt(static_cast<float>(fan_in));
    (void)parameter->set(std::move(t)).ok();
  }
}

inline aoq::Tensor random_tensor(std::vector<std::int64_t> shape, std::uint64_t seed) {
  aoq::Tensor t = aoq::Tensor::make(aoq::DType::f32, std::move(shape)).value();
  Random random(seed);
  for (float& v : t.mutable_as<float>()) v = 2 * random.next();
  return t;
}

class Batches : public aoq::CalibrationData {
 public:
  Batches(std::vector<std::int64_t> shape, int count) : shape_(std::move(shape)), left_(count) {}
  aoq::Result<bool> next(std::vector<aoq::Tensor>& batch) override {
    if (left_ == 0) return false;
    batch = {random_tensor(shape_, static_cast<std::uint64_t>(100 + left_--))};
    return true;
  }

 private:
  std::vector<std::int64_t> shape_;
  int left_;
};

inline aoq::Type float_type(std::vector<aoq::Dim> shape) {
  aoq::Type t;
  t.shape = std::move(shape);
  return t;
}

inline aoq::Tensor run(const aoq::Graph& graph, const aoq::Tensor& x) {
  aoq::ReferenceExecutor executor;
  const std::unique_ptr<aoq::Executable> executable = executor.prepare(graph).value();
  return executable->run(std::vector<aoq::Tensor>{x}).value()[0];
}

inline double relative_error(const aoq::Tensor& exact, const aoq::Tensor& found) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < exact.as<float>().size(); ++i) {
    const double e = static_cast<double>(exact.as<float>()[i]), f = static_cast<double>(found.as<float>()[i]);
    error += (e - f) * (e - f);
    norm += e * e;
  }
  return std::sqrt(error / norm);
}

// "below 5 %" does not depend on the machine.
inline void print_error(const char* what, double error, double bound) {
  fmt::print("{}: relative error {} {} %\n", what, error < bound ? "below" : "NOT below", bound * 100);
}

// The ops of a lowered graph that compute, in order.
inline void print_ops(const aoq::Graph& graph) {
  for (const aoq::Node* n : graph.nodes()) {
    if (n->def().has_trait(aoq::kStructural) || n->def().has_trait(aoq::kDataMovement)) continue;
    fmt::print("  {} {}\n", n->def().name, n->label());
  }
}

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

}  // namespace example
