// Small questions and acts that rewrites share. Included by passes only.
#pragma once

#include <initializer_list>

#include "ir/graph.h"
#include "passes/pass.h"

namespace aoq::rewrite {

// The single user of a value that has one use; null otherwise.
Node* only_user(const Value* v);
// The node that defines input `i` of `n`, when it is `op`; null otherwise.
Node* input_node(const Node* n, std::size_t i, Op op);
// The value of a constant with one element (any rank, number type).
bool scalar_constant(const Value* v, double* out);
// The f32 data of a constant; empty for other values and dtypes.
std::span<const float> float_constant(const Value* v);
// Whether a constant can be added to the result of `n` inside it: a convolution or linear without residual and
// activation, whose bias is constant or absent.
bool takes_bias(const Node& n);
// An f32 constant spread over the output channels of a convolution or linear whose result it meets; empty when it
// varies over other dimensions.
std::vector<float> per_output_channel(const Node& n, const Value* constant);
// Replaces the uses of `old`'s results by those of `replacement` and erases `old`.
void replace_node(Graph& graph, Node* old, Value* replacement);
// Adds the origins of `from` behind those of `to`, without repeats.
void merge_origins(Node* to, const Node* from);
Tensor float_tensor(std::vector<std::int64_t> shape, std::span<const float> values);
bool is_one_of(const Node& n, std::initializer_list<Op> ops);
// Float arithmetic that belongs to the integer op which takes the place of `n`: with its scope and origins, a reason,
// and nothing requested.
Result<Node*> node_beside(Graph& graph, const Node& n, Op op, std::vector<Value*> inputs, Node* before,
                          Attributes attributes = {});
// The activation attribute of `n` as such a node on the result of `x`; x itself where there is none.
Result<Node*> split_activation(Graph& graph, const Node& n, Node* x, Node* before);

// A static per-tensor scale that a quantize or dequantize states in its attributes; false where it does not.
struct StaticScale {
  float scale = 0;
  std::int64_t zero_point = 0;
};
bool read_scale(const Node& n, StaticScale* out);
// Codes of a lowered graph have no scale in their type: what reads them says it.
Status say_scale(Graph& graph, const Value* codes, const StaticScale& scale);

}  // namespace aoq::rewrite
