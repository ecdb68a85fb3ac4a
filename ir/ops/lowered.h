// What the lowered ops share: operands with scales, and results by the definition in ir/epilogue.h.
#pragma once

#include "ir/epilogue.h"
#include "ir/ops/activation.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

inline constexpr AttributeDef kOutDtype = {"out_dtype", AttributeKind::dtype, "u8", "u8, i8 or f32"};
inline constexpr AttributeDef kOutScale = {"out_scale", AttributeKind::real, kAbsent, "unless the result is f32"};
inline constexpr AttributeDef kOutZeroPoint = {"out_zero_point", AttributeKind::integer, kAbsent, "absent: 0"};

// u8 or i8.
bool is_code(DType dtype);
Status require_codes(const Type& type);

// The codes of one operand: integer value i is code - zero point.
struct Codes {
  const std::byte* data = nullptr;
  bool is_signed = false;
  std::int32_t zero_point = 0;
  float scale = 1.0f;

  std::int32_t operator[](std::int64_t i) const {
    std::int32_t code = is_signed ? static_cast<std::int32_t>(reinterpret_cast<const std::int8_t*>(data)[i])
                                  : static_cast<std::int32_t>(reinterpret_cast<const std::uint8_t*>(data)[i]);
    return code - zero_point;
  }
};
// Checks attributes <prefix>_scale and <prefix>_zero_point for codes of this type.
Status check_codes(const InferContext& c, std::size_t input, std::string_view prefix);
Codes read_codes(const EvalContext& c, std::size_t input, std::string_view prefix);

// How results are made: out_dtype, out_scale, out_zero_point and a clamp-like activation (none where the op has none).
struct Output {
  bool is_float = false;
  float scale = 1.0f;
  float inverse_scale = 1.0f;
  RequantBounds bounds{};
  Activation activation;
  MutableTensorView view;

  // Stores a float result, or one that was already divided by the scale.
  void store_float(std::int64_t i, float value) const { reinterpret_cast<float*>(view.data)[i] = value; }
  void store_scaled(std::int64_t i, float value) const {
    view.data[i] = static_cast<std::byte>(round_and_clamp(value, bounds));
  }
  // A float as it is, or as quantize makes codes of it; no activation.
  void store_value(std::int64_t i, float value) const;
  // acc * m with m = scale / out_scale (f32: scale), then the clamp.
  void store_product(std::int64_t i, std::int32_t accumulator, float multiplier) const;
};
Status check_output(const InferContext& c);
Output read_output(const EvalContext& c);
DType output_dtype(const InferContext& c);

// qlinear and qconv: inputs x, weight, weight_scale, bias?, residual?, x_scale?, x_zero_point?, weight_zero_point?.
inline constexpr std::array<InputDef, 16> kDotInputs = {{{"x"},
                                                         {"weight"},
                                                         {"weight_scale"},
                                                         {"bias", Arity::optional},
                                                         {"residual", Arity::optional},
                                                         {"x_scale", Arity::optional},
                                                         {"x_zero_point", Arity::optional},
                                                         {"weight_zero_point", Arity::optional}}};
inline constexpr AttributeDef kXScale = {"x_scale", AttributeKind::real, kAbsent, "in place of the operand"};
inline constexpr AttributeDef kXZeroPoint = {"x_zero_point", AttributeKind::integer, kAbsent,
                                             "in place of the operand; absent: 0"};
inline constexpr AttributeDef kResidualScale = {"residual_scale", AttributeKind::real, kAbsent, "with a residual"};
inline constexpr AttributeDef kResidualZeroPoint = {"residual_zero_point", AttributeKind::integer, kAbsent,
                                                    "absent: 0"};

// Checks everything but the shapes of x, weight and the result.
Status check_dot(const InferContext& c, const Dim& channels, std::span<const Dim> result_shape);
// The inputs as the shapes of linear and conv are inferred from: x, weight, bias.
std::array<const Type*, 3> dot_shape_inputs(const InferContext& c);

// The epilogue of one node with its data.
class DotEpilogue {
 public:
  static Result<DotEpilogue> read(const EvalContext& c);
  std::int32_t x_zero_point() const { return x_zero_point_; }
  std::int32_t weight_zero_point(std::int64_t channel) const {
    return weight_zero_points_.empty() ? 0 : weight_zero_points_[static_cast<std::size_t>(channel)];
  }
  // Result element i of this channel.
  void store(std::int64_t i, std::int64_t channel, std::int32_t accumulator) const;

 private:
  struct Channel {
    float scale = 1.0f;  // x_scale * w_scale
    float b = 0.0f;      // bias / scale
    float bias = 0.0f;
    float multiplier = 1.0f;
  };
  float add_residual(float v, std::int64_t i, float scale) const;

  std::int32_t x_zero_point_ = 0;
  std::vector<std::int32_t> weight_zero_points_;
  std::vector<Channel> channels_;
  bool has_bias_ = false;
  Codes residual_;
  const float* float_residual_ = nullptr;
  float residual_multiplier_ = 0.0f;
  Output output_;
};

// The sum of the products of n small integers, modulo 2^32.
std::int32_t integer_dot(const std::int16_t* a, const std::int16_t* b, std::int64_t n);

}  // namespace aoq::ops
