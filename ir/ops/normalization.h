// What the normalisation ops share.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

inline constexpr AttributeDef kEpsilon = {"epsilon", AttributeKind::real, "1e-05", "added to the variance"};

// epsilon finite and not negative.
Status check_epsilon(const InferContext& c);
// Inputs from `first` on, where present, are [channels].
Status check_per_channel(const InferContext& c, std::size_t first, const Dim& channels);

// x [N, C, ...] with mean and variance of each group of C / groups channels; scale and bias per channel may be null.
void normalize_groups(const EvalContext& c, std::int64_t groups);

// layer_norm and rms_norm: dimensions axis..last are one row; the other inputs have their shape.
InferResult infer_row_norm(const InferContext& c);
struct Rows {
  std::int64_t count, length;
};
Rows rows_from_axis(const EvalContext& c);

}  // namespace aoq::ops
