#include "ir/float_format.h"

#include <cmath>
#include <limits>

namespace aoq {
namespace {

std::uint32_t nan_code(const FloatFormat& f) {
  switch (f.specials) {
    case FloatSpecials::ieee:
      return f.max_code() + 1 + (f.mantissa_bits > 0 ? 1u << (f.mantissa_bits - 1) : 0u);
    case FloatSpecials::nan_only:
      return f.max_code() + 1;
    case FloatSpecials::none:
      return f.max_code();
    case FloatSpecials::negative_zero_is_nan:
      return f.sign_bit();
  }
  return 0;
}

// The magnitude of infinity or of a number too large.
std::uint32_t overflow_code(const FloatFormat& f, FloatOverflow overflow) {
  if (overflow == FloatOverflow::saturate) return f.max_code();
  return f.specials == FloatSpecials::ieee ? f.max_code() + 1 : nan_code(f);
}

std::uint32_t with_sign(const FloatFormat& f, std::uint32_t magnitude, bool is_negative) {
  if (f.specials == FloatSpecials::negative_zero_is_nan && magnitude == 0) return 0;
  return is_negative ? magnitude | f.sign_bit() : magnitude;
}

}  // namespace

std::uint32_t FloatFormat::max_code() const {
  const std::uint32_t all_ones = sign_bit() - 1;
  switch (specials) {
    case FloatSpecials::ieee:
      return all_ones - (std::uint32_t{1} << mantissa_bits);
    case FloatSpecials::nan_only:
      return all_ones - 1;
    case FloatSpecials::none:
    case FloatSpecials::negative_zero_is_nan:
      return all_ones;
  }
  return 0;
}

double decode_float(const FloatFormat& f, std::uint32_t code) {
  const bool is_negative = (code & f.sign_bit()) != 0;
  const std::uint32_t magnitude = code & (f.sign_bit() - 1);
  const bool is_nan_zero = f.specials == FloatSpecials::negative_zero_is_nan && is_negative && magnitude == 0;
  if (is_nan_zero) return std::numeric_limits<double>::quiet_NaN();
  if (magnitude > f.max_code()) {
    const bool is_infinity = f.specials == FloatSpecials::ieee && magnitude == f.max_code() + 1;
    const double special =
        is_infinity ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    return is_negative ? -special : special;
  }
  const int exponent = static_cast<int>(magnitude >> f.mantissa_bits);
  const std::uint32_t implicit_one = exponent == 0 ? 0 : std::uint32_t{1} << f.mantissa_bits;
  const std::uint32_t mantissa = (magnitude & ((std::uint32_t{1} << f.mantissa_bits) - 1)) | implicit_one;
  const int scale = (exponent == 0 ? 1 : exponent) - f.bias() - f.mantissa_bits;
  const double value = std::ldexp(static_cast<double>(mantissa), scale);
  return is_negative ? -value : value;
}

std::uint32_t encode_float(const FloatFormat& f, double value, FloatOverflow overflow) {
  if (std::isnan(value)) return nan_code(f);
  const bool is_negative = std::signbit(value);
  const bool keeps_infinity = f.specials == FloatSpecials::ieee;
  if (std::isinf(value)) {
    const std::uint32_t magnitude = overflow_code(f, keeps_infinity ? FloatOverflow::non_finite : overflow);
    return magnitude == f.sign_bit() ? magnitude : with_sign(f, magnitude, is_negative);
  }
  if (value == 0) return with_sign(f, 0, is_negative);
  const double a = std::fabs(value);
  const int min_exponent = 1 - f.bias();
  int exponent = std::ilogb(a);
  if (exponent < min_exponent) exponent = min_exponent;
  if (exponent > f.bias() + 2) return with_sign(f, overflow_code(f, overflow), is_negative);
  // Below 2^(mantissa_bits + 1); rounding up may reach it, and the carry moves into the exponent by itself. A tie goes
  // to the even code, which without mantissa bits is not the even significand.
  const double steps = std::ldexp(a, f.mantissa_bits - exponent);
  const double whole = std::floor(steps);
  std::uint32_t magnitude =
      (static_cast<std::uint32_t>(exponent - min_exponent) << f.mantissa_bits) + static_cast<std::uint32_t>(whole);
  if (steps - whole > 0.5 || (steps - whole == 0.5 && magnitude % 2 == 1)) ++magnitude;
  if (magnitude > f.max_code()) return with_sign(f, overflow_code(f, overflow), is_negative);
  return with_sign(f, magnitude, is_negative);
}

}  // namespace aoq
