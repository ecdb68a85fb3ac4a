#include "backends/cpu/kernels/binary_s8.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/rounding_avx2.h"

namespace aoq::cpu {
namespace {

struct Operand {
  const std::uint8_t* data;
  std::int64_t row_stride;
  std::int64_t column_stride;
  bool is_signed;
  __m256i zero_point;
};

inline Floats16 load_centered(const Operand& x, std::int64_t row, std::int64_t column, std::int64_t left) {
  const std::uint8_t* at = x.data + row * x.row_stride + column * x.column_stride;
  __m128i bytes = x.column_stride == 0 ? _mm_set1_epi8(static_cast<char>(*at)) : load_first_bytes(at, left);
  return centered_floats(bytes, x.is_signed, x.zero_point);
}

template <typename Compute>
inline void for_each_sixteen(const BinaryS8Params& p, const BroadcastShape& s, const void* a, const void* b, void* out,
                             Compute compute) {
  Operand first = {static_cast<const std::uint8_t*>(a), s.a_row, s.a_column, p.a_type == DType::i8,
                   _mm256_set1_epi32(p.a_zero_point)};
  Operand second = {static_cast<const std::uint8_t*>(b), s.b_row, s.b_column, p.b_type == DType::i8,
                    _mm256_set1_epi32(p.b_zero_point)};
  ByteRounder rounder = rounder_of(p.bounds, p.out_type);
  auto* to = static_cast<std::uint8_t*>(out);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    for (std::int64_t column = 0; column < s.columns; column += 16) {
      std::int64_t left = s.columns - column;
      Floats16 x = load_centered(first, row, column, left);
      Floats16 y = load_centered(second, row, column, left);
      __m128i bytes = round_to_bytes(compute(x.low, y.low), compute(x.high, y.high), rounder);
      store_first_bytes(to + row * s.columns + column, bytes, left);
    }
  }
}

}  // namespace

void add_bytes_avx2(const BinaryS8Params& p, const BroadcastShape& shape, const void* a, const void* b, void* out) {
  F32x8 a_scale(p.a_scale);
  F32x8 b_scale(p.b_scale);
  F32x8 inv_out(p.inv_out);
  for_each_sixteen(p, shape, a, b, out, [&](F32x8 x, F32x8 y) { return (x * a_scale + y * b_scale) * inv_out; });
}

// The product of two centered codes is below 2^17, so the float product is the exact integer.
void multiply_bytes_avx2(const BinaryS8Params& p, const BroadcastShape& shape, const void* a, const void* b,
                         void* out) {
  F32x8 scale(p.a_scale);
  for_each_sixteen(p, shape, a, b, out, [&](F32x8 x, F32x8 y) { return (x * y) * scale; });
}

}  // namespace aoq::cpu
