// Helpers that several ops share: type inference and elementwise loops. Included by ir/ops/*.cpp only.
#pragma once

#include <cmath>
#include <cstdint>

#include "ir/op.h"

namespace aoq {
#define AOQ_OP(name) extern const OpDef kOpDef_##name;
#include "ir/ops.def"
#undef AOQ_OP
}  // namespace aoq

namespace aoq::ops {

inline constexpr const char* kRequired = nullptr;  // as AttributeDef::default_text
inline constexpr const char* kAbsent = "absent";

using InferResult = Result<std::vector<Type>>;

inline bool is_number(DType d) {
  return is_float(d) || is_integer(d);
}
// The type without its quantization.
Type plain(const Type& type);
// The type of elements moved out of `type`: a per-tensor quantization stays, others are left to the reader's operands.
Type moved(const Type& type, std::vector<Dim> shape);
InferResult one_result(DType dtype, std::vector<Dim> shape);

// "input is <type>, expected <what>" unless the condition holds.
Status require(bool condition, const Type& type, std::string_view what);
Status require_float(const Type& type);
// A number that is not a quantized code.
Status require_number(const Type& type);
Status require_index(const Type& type);  // i32 or i64
// All present inputs have the first one's dtype.
Status require_one_dtype(const InferContext& c);
// `type` has exactly this shape; symbols that cannot be compared pass.
Status require_shape(std::string_view what, const Type& type, std::span<const Dim> shape);
Status require_rank(const Type& type, std::int64_t min, std::int64_t max);
// False only when both are numbers and differ, or their difference is a number other than 0.
bool may_equal(const Dim& a, const Dim& b);
// The value of an attribute, in [min, max].
Status require_range(std::string_view name, std::int64_t value, std::int64_t min, std::int64_t max);
Status require_finite(const Attributes& attributes, std::string_view name);

// One result of the first input's type: a float; any number; any number or quantized codes, which stay quantized.
InferResult infer_same_float(const InferContext& c);
InferResult infer_same_number(const InferContext& c);
InferResult infer_same_scale(const InferContext& c);
// A boolean for each element of a float.
InferResult infer_float_predicate(const InferContext& c);
// NumPy broadcasting of the first two inputs, which must have one dtype and be numbers.
InferResult infer_broadcast(const InferContext& c);
// Same; quantized inputs must share scale and zero point, which the result keeps.
InferResult infer_broadcast_same_scale(const InferContext& c);
InferResult infer_broadcast_integer(const InferContext& c);
// Same, with a boolean result.
InferResult infer_compare(const InferContext& c);
// Boolean inputs and result.
InferResult infer_logical(const InferContext& c);
// The quantization that all inputs have in common; an error when they differ.
Result<std::optional<Quantization>> shared_quantization(const InferContext& c);
// The same where elements are only moved: codes of lowered ops have no quantization in their type, and a result that holds
// some of them has none either.
Result<std::optional<Quantization>> moved_quantization(const InferContext& c);

// The broadcast shape of two shapes. A dimension of 1 stretches; a symbol against a number takes the number.
Result<std::vector<Dim>> broadcast_shapes(std::span<const Dim> a, std::span<const Dim> b);
// `axis` in [-rank, rank) to [0, rank).
Result<std::int64_t> normalize_axis(std::int64_t axis, std::int64_t rank);
// Several distinct axes, sorted; none stands for all.
Result<std::vector<std::int64_t>> normalize_axes(std::span<const std::int64_t> axes, std::int64_t rank);
// normalize_axis for an axis that inference has checked.
std::size_t checked_axis(const EvalContext& c, std::size_t rank);

// Elementwise loops. Floats other than f32 and f64 are computed in f32; `f64` null: f64 is computed in f32 too.
struct UnaryFunctions {
  float (*f32)(float) = nullptr;
  double (*f64)(double) = nullptr;
  std::int64_t (*integer)(std::int64_t) = nullptr;
};
Status unary(const EvalContext& c, const UnaryFunctions& f);
Status unary_float(const EvalContext& c, float (*f)(float));
// f(x, a, b) with two attributes of the node.
struct Parameters {
  float a = 0.0f, b = 0.0f;
};
Status unary_float(const EvalContext& c, Parameters parameters, float (*f)(float, Parameters));
Status unary_predicate(const EvalContext& c, bool (*f)(double));

struct BinaryFunctions {
  float (*f32)(float, float) = nullptr;
  double (*f64)(double, double) = nullptr;
  std::int64_t (*integer)(std::int64_t, std::int64_t) = nullptr;
  // For u64, whose values travel as the int64 of the same bits; null: `integer` gives the same bits.
  std::uint64_t (*u64)(std::uint64_t, std::uint64_t) = nullptr;
};
Status binary(const EvalContext& c, const BinaryFunctions& f);
Status binary_compare(const EvalContext& c, bool (*f)(double, double), bool (*i)(std::int64_t, std::int64_t));
// invalid_data when an integer divisor (input 1) has a zero.
Status check_divisor(const EvalContext& c);

// Integer arithmetic that wraps.
inline std::int64_t wrap_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
inline std::int64_t wrap_sub(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
inline std::int64_t wrap_mul(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

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
