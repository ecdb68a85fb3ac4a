// Weights from a seed, batches, and running graphs, for tests of linear layers.
#pragma once

#include <doctest/doctest.h>

#include "ir/interpreter.h"
#include "ir/nn/modules.h"
#include "passes/quantize/calibration.h"
#include "passes/rewrite/common.h"

namespace aoq::testing {

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

inline Tensor random_tensor(std::vector<std::int64_t> shape, std::uint64_t seed) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  Random random(seed);
  for (float& v : t.mutable_as<float>()) v = random.next();
  return t;
}

inline void randomize(nn::Module& model, std::uint64_t seed) {
  for (const auto& [name, parameter] : model.parameters()) {
    REQUIRE(parameter->set(random_tensor(parameter->tensor().shape(), ++seed)).ok());
  }
}

class Batches : public CalibrationData {
 public:
  Batches(std::vector<std::int64_t> shape, int count) : shape_(std::move(shape)), count_(count) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (given_ == count_) return false;
    batch = {random_tensor(shape_, static_cast<std::uint64_t>(100 + given_++))};
    return true;
  }
  bool rewind() override {
    given_ = 0;
    return true;
  }

 private:
  std::vector<std::int64_t> shape_;
  int count_, given_ = 0;
};

inline Tensor run(const Graph& graph, const std::vector<Tensor>& inputs) {
  ReferenceExecutor executor;
  return executor.prepare(graph).value()->run(inputs).value()[0];
}

// What the first linear op of a module makes.
inline Tensor value_of(const Graph& graph, const std::string& module, const std::vector<Tensor>& inputs) {
  const Value* wanted = nullptr;
  for (const Node* n : graph.nodes()) {
    const bool is_linear = rewrite::is_one_of(*n, {Op::linear, Op::linear_weight_only, Op::linear_dynamic});
    if (wanted == nullptr && n->scope.path == module && is_linear) wanted = n->output();
  }
  REQUIRE(wanted != nullptr);
  Tensor found;
  Tap tap;
  tap.values = {wanted};
  tap.callback = [&](const Value&, TensorView view) -> Status {
    AOQ_ASSIGN(found, Tensor::copy_of(view.dtype, {view.shape.begin(), view.shape.end()},
                                      {view.data, static_cast<std::size_t>(view.element_count()) * 4}));
    return {};
  };
  ReferenceExecutor executor;
  REQUIRE(executor.prepare(graph).value()->run(inputs, tap).ok());
  return found;
}

}  // namespace aoq::testing
