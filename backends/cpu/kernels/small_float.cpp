#include "backends/cpu/kernels/small_float.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace aoq::cpu {

namespace {

// A number through the type's code.
float through_code(const DTypeInfo& info, float value) {
  std::byte code[4] = {};
  info.from_float({&value, 1}, code, 0);
  info.to_float(code, 0, {&value, 1});
  return value;
}

}  // namespace

SmallFloat small_float(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  // Code 1 is the least subnormal number: one unit in the last place of the least normal one.
  std::byte code[4] = {std::byte{1}};
  float least = 0.0f;
  info.to_float(code, 0, {&least, 1});
  SmallFloat out;
  out.highest = static_cast<float>(info.max);
  out.least_normal = std::ldexp(least, info.mantissa_bits);
  out.spacing = std::ldexp(1.5f, 23 - info.mantissa_bits);
  out.nan = std::fabs(through_code(info, std::numeric_limits<float>::quiet_NaN()));
  out.zero = std::signbit(through_code(info, -0.0f)) ? -0.0f : 0.0f;
  return out;
}

void through_small_float(const SmallFloat& type, float scale, const float* x, float* out, std::int64_t n) {
  const SmallFloat t = type;
  const std::uint32_t nan = std::bit_cast<std::uint32_t>(t.nan);
  for (std::int64_t i = 0; i < n; ++i) {
    const float v = x[i] / scale;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(v), sign = bits & 0x80000000u;
    // NaN compares false and becomes 0 here.
    const float magnitude = std::min(t.highest, std::max(0.0f, std::bit_cast<float>(bits ^ sign)));
    const float power = std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) & 0x7f800000u);
    const float shift = std::max(t.least_normal, power) * t.spacing;
    const float rounded = (magnitude + shift) - shift;
    const std::uint32_t is_nan = 0u - static_cast<std::uint32_t>((bits ^ sign) > 0x7f800000u);
    const std::uint32_t result = (std::bit_cast<std::uint32_t>(rounded) & ~is_nan) | (nan & is_nan) | sign;
    out[i] = (std::bit_cast<float>(result) + t.zero) * scale;
  }
}

}  // namespace aoq::cpu
