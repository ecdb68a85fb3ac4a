// Floats of up to 16 bits as codes: sign, `exponent_bits`, `mantissa_bits`, with subnormals.
//
// A finite code of magnitude c (the code without its sign) with exponent field E and mantissa field M means
//   E == 0: M * 2^(1 - bias - mantissa_bits)        E > 0: (1 + M / 2^mantissa_bits) * 2^(E - bias)
// so that magnitudes are in the order of their codes. The formats differ in the codes they keep for infinity and NaN.
#pragma once

#include <cstdint>

#include "ir/dtype.h"
#include "ir/status.h"

namespace aoq {

enum class FloatSpecials : std::uint8_t {
  ieee,                  // the highest exponent is infinity (mantissa 0) and NaN: f16, bf16, e5m2
  nan_only,              // all ones is NaN, no infinity ("fn"): e4m3fn
  none,                  // every code is a finite number: e2m0, e3m0, e2m1, e2m2, e3m1, e2m3, e3m2
  negative_zero_is_nan,  // the code of -0 is the one NaN, no infinity ("fnuz")
};

struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
  FloatSpecials specials;

  // One more than half of the exponent range for fnuz, half of it for the rest.
  int bias() const { return (1 << (exponent_bits - 1)) - (specials == FloatSpecials::negative_zero_is_nan ? 0 : 1); }
  std::uint32_t sign_bit() const { return std::uint32_t{1} << (exponent_bits + mantissa_bits); }
  // The code of the highest finite number.
  std::uint32_t max_code() const;
};

// What becomes of a number that rounds beyond the highest finite one.
enum class FloatOverflow : std::uint8_t {
  saturate,    // the highest finite number
  non_finite,  // infinity, or NaN where the format has no infinity; the highest finite number where it has neither
};

// The format of a float dtype of up to 16 bits; invalid_argument for the others.
Result<FloatFormat> float_format_of(DType dtype);

double decode_float(const FloatFormat& format, std::uint32_t code);

// Rounds half to even. Infinity stays infinity where the format has one and follows `overflow` elsewhere; NaN stays
// NaN, or becomes the highest finite number where the format has none.
std::uint32_t encode_float(const FloatFormat& format, double value, FloatOverflow overflow);

}  // namespace aoq
