// The one definition of what linear layers with narrow weights compute: linear_weight_only and linear_dynamic.
//
// A weight has codes [N, K]; each `group` codes that follow each other along K (the last group may have fewer) share
// one scale and zero point of column n. With centre = 2^(bits - 1) of unsigned codes and 0 of others
//
//   c[n, k] = code - centre                  of a float code: its value
//   z[n, g] = zero_point - centre            0 without zero points
//
// linear_weight_only of integer codes of at most 4 bits is block fixed point: a group is cut into blocks of 256
// elements, the last of which may have fewer. In each block x becomes integers with one power of two for unit, and
// their sum is exact. For every row x of floats, groups g ascending and blocks b ascending in each of them:
//
//   m    = max |x[k]| over k in b
//   unit = the smallest power of two, at least 2^-126, with m <= 8355711 * unit
//   X[k] = x[k] / unit, rounded half to even                       |X| <= 8355711 = 127 * 65793
//   X    = 65536 * d2 + 256 * d1 + d0                              digits from -128 to 127
//   S_i  = sum over k in b of d_i[k] * (c - z)                     exact, as is 256 * S_1 + S_0, in 32 bits
//   s    = fma(float(S_2), 65536, float(256 * S_1 + S_0))
//   y    = fma(s * unit, scale, y)                                 from +0
//   y    = fma(t, zero_point, y)                                   behind each group with float zero points, t as below
//   out  = y + bias                                                only with a bias
//
// A block with a NaN or an infinity has unit NaN and X = 0, which makes every column NaN. Otherwise, short of overflow,
// the result before the bias, without float zero points, is within
//
//   sum over b of unit * |scale| * (sum over k in b of |c - z|)   +   sum over b of 2^-24 * |y behind b|
//
// of the real sum: one half of the first part is the rounding of x, by unit / 2 or less, the other that of s. unit is
// below 2^-21.9 * m or is 2^-126, so that numbers of bf16 are exact from 2^-15 * m on.
//
// Codes of 5 to 8 bits would need two products in 16 bits or three in 8 for each on AVX2, which with many rows is
// slower than f32.
//
// linear_weight_only of other codes is one chain of f32, for every row x of floats, groups g ascending and k ascending
// in each of them:
//
//   t    = ((x[k0] + x[k0 + 1]) + x[k0 + 2]) + ...                 only with zero points
//   s    = float(-z) * t                                           with integer zero points, else +0
//   s    = fma(x[k], c, s)                                         one chain over the group
//   y    = fma(s, scale, y)                                        from +0
//   y    = fma(t, zero_point, y)                                   with float zero points, which are added to c * scale
//   out  = y + bias                                                only with a bias
//
// linear_dynamic, for every row of codes xq of 8 bits (quantize_value of ir/epilogue.h) with x_scale and x_zero_point:
//
//   sum  = sum over k in g of (xq[k] - x_zero_point) * (c - z)     exact; modulo 2^32 beyond 33025 codes in a group
//   y    = fma(float(sum), scale, y)                               from +0, groups ascending
//   out  = y * x_scale, then + bias
//
// Every float operation is one rounding.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "ir/dtype.h"

namespace aoq {

// `centre` above, for a dtype of codes.
inline std::int32_t code_centre(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  return info.kind == DTypeKind::unsigned_integer ? std::int32_t{1} << (info.bits - 1) : 0;
}

// Whether linear_weight_only with codes of this type is block fixed point.
inline bool is_fixed_point(DType codes) {
  return is_integer(codes) && dtype_info(codes).bits <= 4;
}

inline constexpr std::int64_t kFixedPointBlock = 256;

// `unit` above and 1 / unit, for the largest |x| of a block; NaN and 0 for one that is not finite.
struct FixedPointUnit {
  float unit = std::numeric_limits<float>::quiet_NaN();
  float inverse = 0.0f;
};
inline FixedPointUnit fixed_point_unit(float max_abs) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(max_abs);
  if (bits >= 0x7f800000u) return {};
  // Half of 8355711 has the fraction 0x7efefe: a larger one needs the next power of two, which the carry gives.
  const std::uint32_t exponent = std::max((bits + 0x010101u) >> 23, 23u) - 22u;
  return {std::bit_cast<float>(exponent << 23), std::bit_cast<float>((254u - exponent) << 23)};
}

// d_i of X.
inline std::int32_t fixed_point_digit(std::int32_t x, int i) {
  const std::uint32_t carried = static_cast<std::uint32_t>(x) + 0x808080u;
  return static_cast<std::int32_t>((carried >> (8 * i)) & 255u) - 128;
}

}  // namespace aoq
