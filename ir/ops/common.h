// Helpers that several ops share: type inference and reference loops. Included by ir/ops/*.cpp only.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>

#include "ir/checked.h"
#include "ir/op.h"

namespace aoq {
#define AOQ_OP(name) extern const OpDef kOpDef_##name __attribute__((weak));
#include "ir/ops.def"
#undef AOQ_OP
}  // namespace aoq

namespace aoq::ops {

inline constexpr const char* kRequired = nullptr;  // as AttributeDef::default_text
inline constexpr const char* kAbsent = "absent";

// One result of the first input's type (without quantization).
Result<std::vector<Type>> infer_same(const InferContext& c);
// infer_same, but the input must be a floating type.
Result<std::vector<Type>> infer_same_float(const InferContext& c);
// infer_same for any number type.
Result<std::vector<Type>> infer_same_number(const InferContext& c);
// NumPy broadcasting of the first two inputs, which must have one dtype.
Result<std::vector<Type>> infer_broadcast(const InferContext& c);
// Same, with a boolean result.
Result<std::vector<Type>> infer_compare(const InferContext& c);
// Boolean inputs and result.
Result<std::vector<Type>> infer_logical(const InferContext& c);

// The broadcast shape of two shapes. A dimension of 1 stretches; a symbol against a number takes the number.
Result<std::vector<Dim>> broadcast_shapes(std::span<const Dim> a, std::span<const Dim> b);
// `axis` in [-rank, rank) to [0, rank).
Result<std::int64_t> normalize_axis(std::int64_t axis, std::int64_t rank);

// Output length of a pooling or convolution window: floor((in + pad_begin + pad_end - dilation*(k-1) - 1)/stride) + 1,
// or ceil where asked. Checks that everything is in range.
struct Window {
  std::int64_t kernel, stride, dilation, pad_begin, pad_end;
  bool ceil_mode = false;
};
Result<Dim> window_output(const Dim& in, const Window& window);

// Reference loops. f32 inputs use `f`; f64 and narrower floats go through float or double.
Status unary_float(const EvalContext& c, float (*f)(float));
// Broadcasting binary loop on f32 (`f`), f64 and integers (`i`, on 64 bits; null where integers make no sense).
Status binary_number(const EvalContext& c, float (*f)(float, float), std::int64_t (*i)(std::int64_t, std::int64_t));
Status binary_compare(const EvalContext& c, bool (*f)(double, double), bool (*i)(std::int64_t, std::int64_t));

// Walks all elements of `out_shape` in row-major order and gives, for each of the inputs, the index of the element that
// broadcasting puts there.
class BroadcastIndex {
 public:
  BroadcastIndex(std::span<const std::int64_t> out_shape, std::span<const TensorView> inputs);
  std::int64_t index(std::size_t input) const { return position_[input]; }
  void next();

 private:
  std::vector<std::int64_t> shape_, counter_;
  std::vector<std::vector<std::int64_t>> strides_;
  std::vector<std::int64_t> position_;
};

}  // namespace aoq::ops
