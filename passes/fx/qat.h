// Quantization-aware training's forward pass: observing and fake quantization in one, in training mode (batch norms
// take the batch's statistics and update their own). There are no gradients here: weights change where the caller sets
// them.
//
// The graph is one that prepare made for a recipe with `qat`. A convolution with its batch norm runs as PyTorch's
// ConvBn does (pytorch-semantics B.4): the weight is scaled by gamma / sqrt(running variance + epsilon) and
// fake-quantized, the result divided by the same factor, then normalized.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"

namespace aoq::fx {

class QatForward {
 public:
  // Both must outlive this; `graph` is changed by finish only. invalid_argument when it is not prepared or has symbolic
  // dimensions.
  static Result<QatForward> make(Graph& graph, Ranges& ranges);

  // Switches of every fake-quantize module, as PyTorch's enable_observer and enable_fake_quant.
  bool observes = true;
  bool fake_quantizes = true;
  double momentum = 0.1;  // of running statistics

  // One batch forward in training mode; the results in the order of the output node.
  Result<std::vector<Tensor>> step(std::span<const Tensor> inputs);
  // Puts the running statistics into the graph and folds the batch norms: ready for convert with the same ranges.
  Status finish();

 private:
  QatForward(Graph& graph, Ranges& ranges) : graph_(graph), ranges_(ranges) {}
  Result<std::vector<Tensor>> evaluate(const Node& n);
  Result<Tensor> observe(const Node& n, const Tensor& x);
  Result<Tensor> conv_batch_norm(const Node& n, const Node& norm);
  Result<Tensor> batch_norm(const Node& n, const Tensor& x);
  Result<Observer*> observer_of(const Node& observe);
  // The tensor of an operand: made in this step, or a constant (with running statistics as they stand).
  const Tensor& operand(const Value* v) const;

  Graph& graph_;
  Ranges& ranges_;
  std::map<const Value*, Tensor> values_;
  std::map<const Value*, Tensor> running_;  // of the constants that batch norms update
};

}  // namespace aoq::fx
