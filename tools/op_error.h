// The error that each op of a quantized model introduces by itself.
//
// Each integer op is compared with the float op of the reference model that has its name, run on the same inputs: those
// of the quantized model, as real numbers. So errors of earlier ops do not count, while rounded weights and rounded
// results do. A quantize op is compared with its own input. Equalized channels are taken back to the reference's size.
// Weights of dense ops are compared with the reference's by themselves. Linear layers with narrow weights are compared
// from the input that the float layer has.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/executor.h"
#include "passes/quantize/error_figures.h"
#include "runtime/backend.h"

namespace aoq::tools {

class OpErrors {
 public:
  // Both graphs must stay as long as the object; the reference has plain constants only. `executor` runs single ops,
  // `backend` unpacks the weights of `graph`.
  static Result<OpErrors> make(const Graph& reference, const Graph& graph, Executor& executor, const Backend& backend);

  // For a run of `graph`, followed by finish_batch().
  const Tap& tap();
  Status finish_batch();

  struct Entry {
    std::string name;
    std::string op;
    double sqnr_db = 0;
    double relative_error = 0;
    std::optional<double> saturation;  // of results that are codes
  };
  // Worst first.
  std::vector<Entry> entries() const;
  // The constant codes that ops read; `op` is the first reader. Worst first.
  std::vector<Entry> weights() const { return weights_; }

 private:
  struct Scale {
    double scale = 1;
    std::int64_t zero_point = 0;
    std::vector<float> factors;  // of equalization, per channel; empty: none
    std::size_t axis = 0;        // of the channels
  };
  struct Comparison {
    const Node* node = nullptr;     // of the quantized graph
    std::unique_ptr<Graph> single;  // the float op alone; null for quantize
    std::unique_ptr<Executable> executable;
    std::vector<const Value*> inputs;  // of the quantized graph, in the order of single's inputs
    ErrorFigures error;
  };

  void find_scales(const Graph& graph);
  Status add(const Node& node, const Node& reference, Executor& executor);
  Status add_weight(const Graph& graph, const Node& node, const Node& reference, const Backend& backend);
  Status add_narrow_weight(const Node& node, const Node& reference, const Backend& backend);
  void take_back_weight(const Graph& graph, const Node& n, const std::vector<std::int64_t>& shape,
                        std::span<float> values) const;
  bool is_readable(const Value* value) const;
  Result<Tensor> to_reals(const Value& value, const TensorView& view) const;
  Status compare(Comparison& c);
  void add_figures(Comparison& c, std::span<const float> expected, std::span<const float> found) const;

  std::map<const Value*, Scale> scales_;
  std::vector<Comparison> comparisons_;
  Tap tap_;
  std::vector<Entry> weights_;
  std::map<const Value*, Tensor> seen_;   // as real numbers
  std::map<const Value*, Tensor> codes_;  // of the results that are codes
};

}  // namespace aoq::tools
