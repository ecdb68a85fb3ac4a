// Type: what a value is: element type, dimensions and, for quantized values, how to read the codes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/dim.h"
#include "ir/dtype.h"

namespace aoq {

// How the codes of a quantized value stand for real numbers: real = (code - zero_point) * scale.
struct Quantization {
  enum class Granularity : std::uint8_t { tensor, axis, group, token };
  Granularity granularity = Granularity::tensor;
  std::int64_t axis = 0;   // for axis and group
  std::int64_t group = 0;  // elements along `axis` that share a scale, for group
  // Static per-tensor values are immediate. Otherwise scale and zero point are the operands of the reading node.
  bool is_immediate = true;
  float scale = 1.0f;
  std::int32_t zero_point = 0;

  friend bool operator==(const Quantization&, const Quantization&) = default;
};

struct Type {
  DType dtype = DType::f32;  // of the codes, for a quantized value
  std::vector<Dim> shape;
  std::optional<Quantization> quantization;

  std::int64_t rank() const { return static_cast<std::int64_t>(shape.size()); }
  friend bool operator==(const Type&, const Type&) = default;
};

// The largest rank of a tensor.
inline constexpr std::size_t kMaxRank = 8;

// "f32[N, 3]", "u8[N, 3]{scale=0x1.8p-5, zero_point=128}", "i8[64, 3]{axis=0}"
std::string to_string(const Type& type);
// The shortest hexadecimal form, which reads back to the same bits: "0x1.8p-5", "inf", "nan".
std::string hex_float(double value);

}  // namespace aoq
