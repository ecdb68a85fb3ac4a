// Eight floats with the interface of ir/math_functions.h, and small helpers, for AVX2 translation units only.
//
// Everything is in an unnamed namespace: an inline function with a common name could be merged by the linker with the
// copy of a file built without AVX2, and would then crash older machines. For the same reason AVX2 files call no inline
// function of the standard library or of other headers.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace aoq::cpu {
namespace {

struct F32x8 {
  __m256 v;
  F32x8() = default;
  explicit F32x8(float value) : v(_mm256_set1_ps(value)) {}
  explicit F32x8(__m256 value) : v(value) {}
};

inline F32x8 operator+(F32x8 a, F32x8 b) {
  return F32x8(_mm256_add_ps(a.v, b.v));
}
inline F32x8 operator-(F32x8 a, F32x8 b) {
  return F32x8(_mm256_sub_ps(a.v, b.v));
}
inline F32x8 operator*(F32x8 a, F32x8 b) {
  return F32x8(_mm256_mul_ps(a.v, b.v));
}
inline F32x8 operator/(F32x8 a, F32x8 b) {
  return F32x8(_mm256_div_ps(a.v, b.v));
}
inline F32x8 less(F32x8 a, F32x8 b) {
  return F32x8(_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ));
}
inline F32x8 equal(F32x8 a, F32x8 b) {
  return F32x8(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ));
}
inline F32x8 select(F32x8 mask, F32x8 a, F32x8 b) {
  return F32x8(_mm256_blendv_ps(b.v, a.v, mask.v));
}
inline F32x8 fma_of(F32x8 a, F32x8 b, F32x8 c) {
  return F32x8(_mm256_fmadd_ps(a.v, b.v, c.v));
}
inline F32x8 sqrt_of(F32x8 x) {
  return F32x8(_mm256_sqrt_ps(x.v));
}
// Of numbers that are not NaN; which zero is taken is left open.
inline F32x8 larger_of(F32x8 a, F32x8 b) {
  return F32x8(_mm256_max_ps(a.v, b.v));
}
inline F32x8 smaller_of(F32x8 a, F32x8 b) {
  return F32x8(_mm256_min_ps(a.v, b.v));
}
inline F32x8 abs_of(F32x8 x) {
  return F32x8(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v));
}
inline F32x8 copy_sign(F32x8 magnitude, F32x8 sign) {
  __m256 bit = _mm256_set1_ps(-0.0f);
  return F32x8(_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.v), _mm256_and_ps(bit, sign.v)));
}

// NaN if either is, as math::maximum: the instruction gives b when a or b is NaN, so only a NaN in a is put back.
inline F32x8 maximum_of(F32x8 a, F32x8 b) {
  return F32x8(_mm256_blendv_ps(_mm256_max_ps(a.v, b.v), a.v, _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)));
}
inline F32x8 minimum_of(F32x8 a, F32x8 b) {
  return F32x8(_mm256_blendv_ps(_mm256_min_ps(a.v, b.v), a.v, _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)));
}

// math::at_least and math::at_most: the instructions give their second operand for NaN and for zeros of two signs.
inline F32x8 at_least(F32x8 x, F32x8 lo) {
  return F32x8(_mm256_max_ps(lo.v, x.v));
}
inline F32x8 at_most(F32x8 x, F32x8 hi) {
  return F32x8(_mm256_min_ps(hi.v, x.v));
}

inline F32x8 number_at_least(F32x8 x, F32x8 lo) {
  return F32x8(_mm256_max_ps(x.v, lo.v));
}

inline F32x8 power_of_two(__m256i n) {
  return F32x8(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)));
}

inline F32x8 scale_by_magic(F32x8 v, F32x8 magic) {
  __m256i bits = _mm256_sub_epi32(_mm256_castps_si256(magic.v), _mm256_castps_si256(_mm256_set1_ps(0x1.8p23f)));
  __m256i half = _mm256_srai_epi32(bits, 1);
  return (v * power_of_two(half)) * power_of_two(_mm256_sub_epi32(bits, half));
}

inline F32x8 scale_normal(F32x8 v, F32x8 magic) {
  __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(magic.v), 23);
  return F32x8(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v.v), exponent)));
}

inline F32x8 split_exponent(F32x8 x, F32x8* exponent) {
  __m256i sqrt_half = _mm256_set1_epi32(0x3f3504f3);
  __m256i bits = _mm256_sub_epi32(_mm256_castps_si256(x.v), sqrt_half);
  exponent->v = _mm256_cvtepi32_ps(_mm256_srai_epi32(bits, 23));
  __m256i mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff));
  return F32x8(_mm256_castsi256_ps(_mm256_add_epi32(mantissa, sqrt_half)));
}

// All ones in the first n of 8 lanes.
inline __m256i first_lanes(std::int64_t n) {
  __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index);
}

inline F32x8 load(const float* p) {
  return F32x8(_mm256_loadu_ps(p));
}
inline void store(float* p, F32x8 x) {
  _mm256_storeu_ps(p, x.v);
}
// The first n (0 to 8) floats; the other lanes are +0 and memory behind them is not touched.
inline F32x8 load_first(const float* p, std::int64_t n) {
  return n >= 8 ? load(p) : F32x8(_mm256_maskload_ps(p, first_lanes(n)));
}
inline void store_first(float* p, F32x8 x, std::int64_t n) {
  if (n >= 8) {
    store(p, x);
  } else {
    _mm256_maskstore_ps(p, first_lanes(n), x.v);
  }
}

// Sixteen virtual lanes combined in the order of ir/math.h: i + 8, then i + 4, i + 2, i + 1.
template <typename Combine>
inline float combine_lanes(F32x8 low, F32x8 high, Combine combine) {
  F32x8 x = combine(low, high);
  x = combine(x, F32x8(_mm256_permute2f128_ps(x.v, x.v, 1)));
  x = combine(x, F32x8(_mm256_permute_ps(x.v, 0x4e)));
  x = combine(x, F32x8(_mm256_permute_ps(x.v, 0xb1)));
  return _mm256_cvtss_f32(x.v);
}

inline std::int64_t min_of(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
inline std::int64_t max_of(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}

inline void zero_floats(float* p, std::int64_t n) {
  __builtin_memset(p, 0, static_cast<std::size_t>(n) * sizeof(float));
}

inline void copy_bytes(void* out, const void* in, std::int64_t n) {
  __builtin_memcpy(out, in, static_cast<std::size_t>(n));
}

// sum += product on eight int32. Written as one instruction because g++ 12, given the intrinsic, moves all products of
// a tile above the sums and spills.
inline void add_s32_in_place(__m256i& sum, __m256i product) {
  asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product));
}

}  // namespace
}  // namespace aoq::cpu
