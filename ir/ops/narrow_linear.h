// What linear_weight_only and linear_dynamic share: operands and their access; ir/narrow_linear.h has the arithmetic.
#pragma once

#include <span>
#include <vector>

#include "ir/narrow_linear.h"
#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

// Operands of both, in this order; linear_dynamic has more behind them.
enum NarrowLinearInput : std::size_t { kNarrowX, kNarrowWeight, kNarrowScale, kNarrowZeroPoint, kNarrowBias };

inline constexpr AttributeDef kWeightGroup = {"group", AttributeKind::integer, kRequired,
                                              "codes along K that share a scale; the last group may have fewer"};

// Which zero points an op takes besides integers.
enum class FloatZeroPoints : std::uint8_t { no, yes };

// A weight of narrow codes [N, K] with its scale and, where it is not null, its zero point [N, ceil(K / group)]: types
// and shapes.
struct NarrowOperands {
  const Type& codes;
  const Type& scale;
  const Type* zero_point = nullptr;
};
Status check_narrow(const NarrowOperands& operands, std::int64_t group, FloatZeroPoints float_zero_points);

// Checks the operands above, and gives the shape of the result: x f32 [..., K], weight [N, K], scale and zero_point
// [N, ceil(K / group)], bias f32 [N].
Result<std::vector<Dim>> infer_narrow_linear(const InferContext& c, FloatZeroPoints float_zero_points);

struct NarrowLinearSizes {
  std::int64_t rows = 0, columns = 0, depth = 0, group = 1, groups = 0;

  explicit NarrowLinearSizes(const EvalContext& c);
  std::int64_t group_begin(std::int64_t g) const { return g * group; }
  std::int64_t group_end(std::int64_t g) const { return group < depth - g * group ? (g + 1) * group : depth; }
};

// z of ir/narrow_linear.h for integer zero points, [N, groups]; zeros without an operand.
std::vector<std::int32_t> centred_zero_points(const EvalContext& c, const NarrowLinearSizes& sizes);

// c - z of ir/narrow_linear.h, [N, K], of integer codes; `z` from centred_zero_points.
std::vector<std::int16_t> centred_codes(const EvalContext& c, const NarrowLinearSizes& sizes,
                                        std::span<const std::int32_t> z);

}  // namespace aoq::ops
