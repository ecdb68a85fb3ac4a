// The one definition of what linear layers with narrow weights compute: linear_weight_only and linear_dynamic.
//
// A weight has codes [N, K]; each `group` codes that follow each other along K (the last group may have fewer) share
// one scale and zero point of column n. With centre = 2^(bits - 1) of unsigned codes and 0 of others
//
//   c[n, k] = code - centre                  of a float code: its value
//   z[n, g] = zero_point - centre            0 without zero points
//
// linear_weight_only, for every row x of floats, groups g ascending and k ascending in each of them:
//
//   t    = ((x[k0] + x[k0 + 1]) + x[k0 + 2]) + ...                 only with zero points
//   s    = float(-z) * t                                           with integer zero points, else +0
//   s    = fma(x[k], c, s)                                         one chain over the group
//   y    = fma(s, scale, y)                                        from +0
//   y    = fma(t, zero_point, y)                                   with float zero points: real = c * scale +
//   zero_point out  = y + bias                                                only with a bias
//
// linear_dynamic, for every row of codes xq of 8 bits (quantize_value of ir/epilogue.h) with x_scale and x_zero_point:
//
//   sum  = sum over k in g of (xq[k] - x_zero_point) * (c - z)     exact; modulo 2^32 beyond 33025 codes in a group
//   y    = fma(float(sum), scale, y)                               from +0, groups ascending
//   out  = y * x_scale, then + bias
//
// Every float operation is one rounding.
#pragma once

#include <cstdint>

#include "ir/dtype.h"

namespace aoq {

// `centre` above, for a dtype of codes.
inline std::int32_t code_centre(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  return info.kind == DTypeKind::unsigned_integer ? std::int32_t{1} << (info.bits - 1) : 0;
}

}  // namespace aoq
