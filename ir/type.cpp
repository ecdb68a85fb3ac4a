#include "ir/type.h"

#include <cmath>
#include <cstdio>

namespace aoq {

std::string hex_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  int n = std::snprintf(buffer, sizeof buffer, "%a", value);
  return std::string(buffer, static_cast<std::size_t>(n));
}

std::string to_string(const Type& type) {
  std::string out = std::string(dtype_name(type.dtype)) + to_string(std::span<const Dim>(type.shape));
  if (!type.quantization) return out;
  const Quantization& q = *type.quantization;
  out += "{";
  if (q.granularity == Quantization::Granularity::axis) out += fmt::format("axis={}", q.axis);
  if (q.granularity == Quantization::Granularity::group) out += fmt::format("axis={}, group={}", q.axis, q.group);
  if (q.granularity == Quantization::Granularity::token) out += "token";
  if (q.granularity == Quantization::Granularity::tensor) {
    out += q.is_immediate ? fmt::format("scale={}, zero_point={}", hex_float(q.scale), q.zero_point) : "tensor";
  }
  return out + "}";
}

}  // namespace aoq
