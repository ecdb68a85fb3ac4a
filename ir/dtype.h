// The dtype table: every element type, with its size, range and conversions to and from float.
//
// Types narrower than a byte are stored bit-packed, element 0 in the least significant bits of byte 0; the buffer of n
// elements has ceil(n * bits / 8) bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace aoq {

// One enumerator per row of ir/dtypes.def, in that order.
enum class DType : std::uint8_t {
#define AOQ_DTYPE(name, kind, bits, min, max, exponent, mantissa) name,
#include "ir/dtypes.def"
#undef AOQ_DTYPE
};

enum class DTypeKind : std::uint8_t { boolean, signed_integer, unsigned_integer, floating, scale };

struct DTypeInfo {
  std::string_view name;  // the name in IR text, JSON and messages
  DTypeKind kind;
  int bits;
  double min;         // lowest finite value
  double max;         // highest finite value
  int exponent_bits;  // 0 for integers
  int mantissa_bits;
  // Converts `out.size()` elements that start at element `begin` of the packed buffer `in`; the buffer must hold them.
  void (*to_float)(const std::byte* in, std::int64_t begin, std::span<float> out);
  // Rounds half to even and writes from element `begin` on. Integers saturate to [min, max] and take NaN as 0; boolean
  // is 1 for everything but 0. Formats with an infinity (f16, bf16, f8_e5m2) overflow to it, the other floats saturate;
  // NaN stays NaN, or becomes max where the format has none. f8_e8m0 is NaN for NaN, infinity and negative numbers.
  void (*from_float)(std::span<const float> in, std::byte* out, std::int64_t begin);
};

const DTypeInfo& dtype_info(DType dtype);
inline std::string_view dtype_name(DType dtype) {
  return dtype_info(dtype).name;
}
std::optional<DType> dtype_from_name(std::string_view name);
std::span<const DTypeInfo> all_dtypes();

inline bool is_integer(DType d) {
  DTypeKind k = dtype_info(d).kind;
  return k == DTypeKind::signed_integer || k == DTypeKind::unsigned_integer;
}
inline bool is_signed_integer(DType d) {
  return dtype_info(d).kind == DTypeKind::signed_integer;
}
inline bool is_float(DType d) {
  return dtype_info(d).kind == DTypeKind::floating;
}

// Reads or writes one integer element (any integer or bool dtype) of a packed buffer. Writing keeps the low bits; u64
// travels as the int64 of the same bits.
std::int64_t load_integer(DType dtype, const std::byte* data, std::int64_t index);
void store_integer(DType dtype, std::byte* data, std::int64_t index, std::int64_t value);
// Reads or writes one element of any dtype as double (64-bit integers lose precision above 2^53).
double load_as_double(DType dtype, const std::byte* data, std::int64_t index);
void store_from_double(DType dtype, std::byte* data, std::int64_t index, double value);

}  // namespace aoq
