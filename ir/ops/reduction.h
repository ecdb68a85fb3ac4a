// Reductions over some dimensions, and rows along one.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

inline constexpr AttributeDef kAxes = {"axes", AttributeKind::integers, "[]", "none: all"};
inline constexpr AttributeDef kKeepDims = {"keepdims", AttributeKind::boolean, "true", "reduced dimensions stay as 1"};

InferResult infer_reduce_float(const InferContext& c);
InferResult infer_reduce_number(const InferContext& c);
// Number types and boolean; quantized codes stay quantized.
InferResult infer_reduce_order(const InferContext& c);

// How to reduce n elements that lie in row-major order. Null where a kind of element is not taken.
struct Reducer {
  float (*f32)(const float* x, std::int64_t n) = nullptr;
  double (*f64)(const double* x, std::int64_t n) = nullptr;  // null: in f32
  std::int64_t (*integer)(const std::int64_t* x, std::int64_t n, DType dtype) = nullptr;
};
Status reduce(const EvalContext& c, const Reducer& reducer);

// The lines along one axis: element k of line l is at base(l) + k * stride.
struct Lines {
  std::int64_t count, length, stride;
  std::int64_t base(std::int64_t line) const { return line / stride * length * stride + line % stride; }
};
Lines lines_along(std::span<const std::int64_t> shape, std::size_t axis);

// One result of the input's shape for a float op along `axis`.
InferResult infer_along_axis(const InferContext& c);
// argmax and argmin: which of two numbers wins.
InferResult infer_arg(const InferContext& c);
enum class Extreme { max, min };
Status arg_extreme(const EvalContext& c, Extreme extreme);

// Orders elements of a line as topk and argmax do: NaN above every number.
bool is_greater(double a, double b);

}  // namespace aoq::ops
