// Simulated quantization: a recipe run in float, with quantize and dequantize at every stub, beside the float model.
//
//   float model     x -> conv -> relu -> linear -> y
//   quantized       x -> q dq -> conv(dq w) -> q dq -> linear(dq w) -> y        (stage `quantized`, static, dynamic or
//                                                                               weight-only)
//
// Three kinds of figures come out, by name:
//
//   activations   what each quantize - dequantize pair does to the value it is given, and the share of saturated codes
//   weights       what became of each weight, against the float model's
//   values        each result of an op, against that of the float model's op of the same name: errors add up
//
// Where channels were equalized they are taken back to the float model's size first.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/executor.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/error_figures.h"
#include "passes/quantize/recipe.h"

namespace aoq {

// A prepared graph with its ranges made `quantized`; dynamic and weight-only recipes need no ranges.
Result<Graph> quantized_copy(const Graph& prepared, const Recipe& recipe, Ranges& ranges);

class Simulation {
 public:
  // `reference`: a float graph that went through the same rewrites (stage traced, or prepared). `graph`: stage
  // quantized. Both are copied, sharing constants. `executor` runs them and must live as long.
  static Result<Simulation> make(const Graph& reference, const Graph& graph, Executor& executor);
  Simulation(Simulation&&) noexcept;
  Simulation& operator=(Simulation&&) noexcept;
  ~Simulation();

  struct Outputs {
    std::vector<Tensor> reference, simulated;
  };
  // One batch; inputs in the order of the reference's input nodes. Not thread-safe.
  Result<Outputs> run(std::span<const Tensor> inputs);

  struct Entry {
    std::string name;
    std::string op;      // that makes the value, or that reads the weight
    std::string module;  // "" where it belongs to none
    std::string dtype;   // of the codes; "f32" in values()
    double relative_error = 0;
    double sqnr_db = 0;
    std::optional<double> saturation;  // of integer codes
  };
  // In the order of the graph, over all batches so far.
  std::vector<Entry> activations() const;
  std::vector<Entry> weights() const;
  std::vector<Entry> values() const;

 private:
  struct Impl;
  explicit Simulation(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aoq
