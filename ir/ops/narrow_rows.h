// Rows of a table of narrow codes as floats: what qembedding with groups looks up. Each `group` codes of a row share a
// scale and a zero point. With centre = 2^(bits - 1) of unsigned codes and 0 of others
//
//   integer zero points   (code - zero_point) * scale
//   float zero points     round(round((code - centre) * scale) + zero_point)
//
// Every operation is one rounding to f32; round() is to the type of the zero points, in which a model of bf16 or f16
// dequantizes.
#pragma once

#include <cstdint>
#include <span>

#include "ir/dtype.h"

namespace aoq::ops {

struct NarrowRowFormat {
  DType codes = DType::i8;
  std::int64_t group = 1;
  DType zero_points = DType::i8;  // an integer or a float type
};

// In: the codes of a row as floats. Out: their values. scales and zero_points have one number for each group.
void scale_narrow_row(const NarrowRowFormat& format, std::span<const float> scales, std::span<const float> zero_points,
                      std::span<float> row);

}  // namespace aoq::ops
