// Scale and zero point of quantize and dequantize: attributes or operands, for the tensor or for its parts.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

inline constexpr AttributeDef kScale = {"scale", AttributeKind::real, kAbsent, "in place of the operand"};
inline constexpr AttributeDef kZeroPoint = {"zero_point", AttributeKind::integer, kAbsent,
                                            "in place of the operand; absent: 0"};
inline constexpr AttributeDef kGranularity = {"granularity", AttributeKind::string, "tensor",
                                              "what shares a scale: tensor, axis, group or token"};
inline constexpr AttributeDef kQuantAxis = {"axis", AttributeKind::integer, "0", "for axis and group"};
inline constexpr AttributeDef kGroup = {"group", AttributeKind::integer, "0",
                                        "elements along the axis that share a scale"};

// The quantization that scale, zero_point, granularity, axis and group (attributes) and operands 1 and 2 describe for
// codes of `dtype` in the shape of input 0; everything is checked.
Result<Quantization> infer_qparams(const InferContext& c, DType dtype);
// The finite, positive scale of an attribute and the zero point in the dtype's range.
Status check_scale(std::string_view name, double scale);
Status check_zero_point(std::string_view name, std::int64_t zero_point, DType dtype);

// Concrete scales and zero points.
class Qparams {
 public:
  // `codes` is the dtype that the zero points must fit. invalid_data for scales that are not finite and positive.
  static Result<Qparams> read(const EvalContext& c, const Quantization& quantization, DType codes);
  // Which scale element `i` of the tensor has.
  std::size_t part(std::int64_t i) const;
  float scale(std::size_t part) const { return scales_[part]; }
  std::int32_t zero_point(std::size_t part) const { return zero_points_[part]; }

 private:
  std::vector<float> scales_;
  std::vector<std::int32_t> zero_points_;
  // part = (i / outer_) * parts_ + (i % outer_ / inner_ / group_) * kept_ + i % kept_
  std::int64_t outer_ = 1, parts_ = 0, inner_ = 1, group_ = 1, kept_ = 1;
};

}  // namespace aoq::ops
