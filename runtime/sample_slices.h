// The nodes of a graph at a part of the batch. Internal to the runtime.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "ir/bind.h"
#include "ir/graph.h"
#include "runtime/backend.h"

namespace aoq {

using ConcreteTypes = std::unordered_map<const Value*, ConcreteType>;

Result<std::uint64_t> byte_size(const ConcreteType& type);
// The types of the results at these inputs, one an operand.
Result<std::vector<Type>> infer_at(const Node& node, std::span<const ConcreteType> inputs,
                                   const Attributes& attributes);
ConcreteType concrete(const Type& type);

// A node for some samples of the batch.
struct SlicedNode {
  Attributes attributes;
  std::vector<ConcreteType> inputs, outputs;
  std::vector<bool> cut;  // the inputs that have these samples only; the others are whole
};

// Of a graph at one set of input shapes. The batch is the leading dimension of the first input; where that is a symbol,
// shapes in attributes follow it.
class SampleSlices {
 public:
  // Keeps references; `types` has to have the inputs.
  SampleSlices(const Graph& graph, const SymbolValues& symbols, const ConcreteTypes& types);

  std::int64_t batch() const { return batch_; }  // below 2: there is nothing to cut
  // A few, the most slices first: each divides the batch.
  std::vector<std::int64_t> slice_counts() const;
  // Nothing where the node joins samples (ir/samples.h), its results do not count samples first, or a slice is no whole
  // number of bytes. `samples` divides the batch.
  std::optional<SlicedNode> slice(const Node& node, std::int64_t samples) const;

 private:
  const SymbolValues& symbols_;
  const ConcreteTypes& types_;
  std::int64_t batch_ = 0;
  std::string symbol_;  // empty: a number
};

}  // namespace aoq
