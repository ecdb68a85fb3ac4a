// A layer of a graph with its weight narrow.
//
//   linear(x, w, b) by a weight-only configuration    =>  linear_weight_only(x, codes, scale, zero_point, b)
//   linear(x, w, b) with quantized inputs             =>  linear_dynamic(x, codes, scale, zero_point, b)
//   a layer with a pre-scale                          =>  the same of mul(x, pre_scale)
//   gather(table, indices)                            =>  qembedding(codes, scale, zero_point, indices)
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/torchao/quantized_weight.h"

namespace aoq::torchao {

// The table of a gather that looks up rows of a constant matrix of floats, an embedding; null for other nodes.
const Tensor* embedding_table(const Node& n);

// Constants of layers that were rewritten. Layers whose codes are the same share them, as those of a tied weight do.
class NarrowConstants {
 public:
  // Like Graph::constant; one of the same numbers where an earlier call made it. Call in the order of the nodes
  // `before`.
  Value* get(Graph& graph, const Tensor& tensor, Node* before, const std::string& origin);

 private:
  std::vector<Value*> made_;
};

struct RewrittenLayer {
  const Value* codes = nullptr;
  double bits_per_weight = 0;  // of the operands that hold the weight
};
// Replace a linear, and a gather with an embedding_table.
Result<RewrittenLayer> rewrite_linear(Graph& graph, Node* linear, const QuantizedWeight& weight,
                                      NarrowConstants& constants);
Result<RewrittenLayer> rewrite_embedding(Graph& graph, Node* gather, const QuantizedWeight& weight,
                                         NarrowConstants& constants);

}  // namespace aoq::torchao
