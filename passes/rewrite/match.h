// Matching helpers for the rewrites of this directory: constants, products in any order, means in any spelling.
#pragma once

#include <optional>
#include <vector>

#include "ir/graph.h"

namespace aoq::match {

// The number in a floating constant of one element, whatever its shape.
std::optional<double> scalar_of(const Value* value);
// Equal within the rounding of a float computation.
bool is_close(double a, double b);
bool is_scalar(const Value* value, double expected);

// The node behind a value when it is of this op; null otherwise. `own` asks that the value has no other reader, so
// that it disappears with the pattern.
const Node* node_of(const Value* value, Op op);
const Node* own_node_of(const Value* value, Op op);

// For a node of two operands of which one is a scalar constant.
struct WithScalar {
  Value* other;
  double scalar;
};
std::optional<WithScalar> with_scalar(const Node& node);
// The second operand of `node` when `one` is the first or the second; null otherwise.
Value* other_operand(const Node& node, const Value* one);

// A product taken apart: through mul, div and reciprocal nodes whose results have no other reader.
struct Product {
  double scalar = 1.0;
  std::vector<Value*> factors;
  std::vector<Value*> divisors;
  std::vector<Value*> root_divisors;  // 1/sqrt(v), from rsqrt
};
Product product_of(Value* value);
// Takes `value` out of `values`; false when it is not there.
bool take(std::vector<Value*>& values, const Value* value);

// The mean (or sum, or maximum) of `x` over `axes` (sorted, not negative), with those dimensions kept as 1.
struct Reduced {
  Value* x;
  std::vector<std::int64_t> axes;
};
std::optional<Reduced> sum_of(Value* value);
std::optional<Reduced> max_of(Value* value);
std::optional<Reduced> mean_of(Value* value);
// `value` is b * b for the b returned, as mul or pow.
Value* square_of(Value* value);

// A per-element parameter, such as a layer norm's weight, that depends on `axes` of `shape` only: its values in the
// shape of those axes, or null when it is none.
Result<Value*> parameter_over(Graph& graph, Value* value, const std::vector<Dim>& shape,
                              const std::vector<std::int64_t>& axes, Node* before);
bool is_parameter_over(const Value* value, const std::vector<Dim>& shape, const std::vector<std::int64_t>& axes);

// Normalisation over axes other than the last ones runs between two permutations.
struct LastAxes {
  std::vector<std::int64_t> to_last, back;  // permutations; empty when nothing moves
  std::int64_t first = 0;                   // the first normalised axis then
};
LastAxes last_axes(std::int64_t rank, const std::vector<std::int64_t>& axes);

// The users of a value that could take a following op in: the only reader, when it is of op `op`.
Node* only_reader(const Value* value, Op op);

}  // namespace aoq::match
