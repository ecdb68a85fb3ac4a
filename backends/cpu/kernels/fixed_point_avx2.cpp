// Block fixed point of ir/narrow_linear.h for one row of x, eight elements at a time, in every vector class.
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "ir/narrow_linear.h"

namespace aoq::cpu {
namespace {

inline int largest_of(__m256i v) {
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

inline int sum_of(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

inline float float_of(std::int32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// The bits of the largest |x|, of which NaN and infinity are the largest.
std::int32_t largest_bits(const float* x, std::int64_t n) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256();
  for (std::int64_t k = 0; k < n; k += 8) {
    __m256i bits = _mm256_and_si256(_mm256_castps_si256(load_first(x + k, n - k).v), magnitude);
    largest = _mm256_max_epi32(largest, bits);
  }
  return largest_of(largest);
}

// Digits of eight numbers, a byte each: 0 from the low 8 bytes of `low_two`, 1 from the high ones, 2 from `top`.
struct Digits {
  __m128i low_two, top;
};
inline Digits digits_of(__m256i fixed) {
  const __m256i carry = _mm256_set1_epi32(0x808080);
  const __m256i gather =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  // With 128 added in each place there is nothing to borrow; a byte less 128 is the byte with its top bit flipped.
  __m256i bytes = _mm256_xor_si256(_mm256_add_epi32(fixed, carry), carry);
  bytes = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(bytes, gather), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  return {_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)};
}

// Four sums of eight digits each are added to sums[i].
inline void add_digits(const Digits& d, __m256i (&sums)[3]) {
  sums[0] = _mm256_add_epi32(sums[0], _mm256_cvtepi8_epi32(d.low_two));
  sums[1] = _mm256_add_epi32(sums[1], _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(d.low_two, d.low_two)));
  sums[2] = _mm256_add_epi32(sums[2], _mm256_cvtepi8_epi32(d.top));
}

inline void store_digits(const Digits& d, std::int8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), d.low_two);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 16), d.top);
}

// The n numbers of a block, and zeros behind them up to a multiple of eight. Its unit is that of fixed_point_unit.
FixedPointBlock fix_block(const float* x, std::int64_t n, std::int8_t* digits) {
  const std::int32_t largest = largest_bits(x, n);
  const bool is_finite = largest < 0x7f800000;
  const std::int64_t exponent = max_of((static_cast<std::uint32_t>(largest) + 0x010101u) >> 23, 23) - 22;
  const auto unit = static_cast<std::int32_t>(is_finite ? exponent << 23 : 0x7fc00000);
  const F32x8 inverse(float_of(static_cast<std::int32_t>((254 - exponent) << 23)));
  __m256i sums[3] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  __m256i all = _mm256_setzero_si256();
  for (std::int64_t k = 0; k < n; k += 8, digits += kFixedPointStep) {
    __m256i fixed = _mm256_setzero_si256();
    if (is_finite) fixed = _mm256_cvtps_epi32((load_first(x + k, n - k) * inverse).v);
    all = _mm256_or_si256(all, fixed);
    const Digits d = digits_of(fixed);
    store_digits(d, digits);
    add_digits(d, sums);
  }
  FixedPointBlock out;
  out.low_sum = 256 * sum_of(sums[1]) + sum_of(sums[0]);
  out.top_sum = sum_of(sums[2]);
  out.low_start = -8 * out.low_sum;
  out.top_start = -8 * out.top_sum;
  out.unit = float_of(unit);
  // d_0 is 0 where the low byte is.
  out.has_low_digits = _mm256_testz_si256(all, _mm256_set1_epi32(255)) == 0;
  return out;
}

}  // namespace

void fix_row_avx2(const NarrowLinearPlan& plan, const FixedPointRow& row) {
  FixedPointBlock* block = row.blocks;
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t end = min_of(plan.depth, (g + 1) * plan.group);
    for (std::int64_t k = g * plan.group; k < end; k += kFixedPointBlock) {
      *block++ = fix_block(row.x + k, min_of(kFixedPointBlock, end - k), row.digits + k / 8 * kFixedPointStep);
    }
  }
}

}  // namespace aoq::cpu
