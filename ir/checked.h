// Checked size arithmetic: every size that comes from a file goes through here.
//
// All functions work on unsigned 64-bit values and report overflow as an empty optional; `mul`, `add` and `align_up`
// never wrap. `fits` is the only way to test an offset and a length against a total.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace aoq::checked {

inline std::optional<std::uint64_t> add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<std::uint64_t> mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// Rounds up to a multiple of `alignment`, a power of two.
inline std::optional<std::uint64_t> align_up(std::uint64_t value, std::uint64_t alignment) {
  std::optional<std::uint64_t> r = add(value, alignment - 1);
  if (!r) return std::nullopt;
  return *r & ~(alignment - 1);
}

// True when [offset, offset + length) lies in [0, total).
inline bool fits(std::uint64_t offset, std::uint64_t length, std::uint64_t total) {
  return length <= total && offset <= total - length;
}

// No dimension of a tensor is larger, which keeps arithmetic on a few of them far from overflow.
inline constexpr std::int64_t kMaxDimension = std::int64_t{1} << 48;

// The number of elements of a shape; empty on a negative dimension, on one above kMaxDimension, or when the product of
// those that are not 0 exceeds 2^62.
inline std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  std::uint64_t n = 1;
  bool zero = false;
  for (std::int64_t d : shape) {
    if (d < 0 || d > kMaxDimension) return std::nullopt;
    if (d == 0) {
      zero = true;
      continue;
    }
    std::optional<std::uint64_t> next = mul(n, static_cast<std::uint64_t>(d));
    if (!next || *next > (std::uint64_t{1} << 62)) return std::nullopt;
    n = *next;
  }
  return zero ? 0 : static_cast<std::int64_t>(n);
}

// Bytes that `count` elements of `bits` bits take, bit-packed.
inline std::optional<std::uint64_t> packed_bytes(std::uint64_t count, std::uint64_t bits) {
  std::optional<std::uint64_t> total = mul(count, bits);
  if (!total) return std::nullopt;
  std::optional<std::uint64_t> rounded = add(*total, 7);
  if (!rounded) return std::nullopt;
  return *rounded / 8;
}

}  // namespace aoq::checked
