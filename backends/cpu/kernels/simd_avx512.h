// Sixteen floats with the interface of ir/math_functions.h, for AVX-512 translation units only; simd_avx2.h says why
// everything is in an unnamed namespace.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace aoq::cpu {
namespace {

struct F32x16 {
  __m512 v;
  F32x16() = default;
  explicit F32x16(float value) : v(_mm512_set1_ps(value)) {}
  explicit F32x16(__m512 value) : v(value) {}
};

struct Mask16 {
  __mmask16 m;
};

inline F32x16 operator+(F32x16 a, F32x16 b) {
  return F32x16(_mm512_add_ps(a.v, b.v));
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
  return F32x16(_mm512_sub_ps(a.v, b.v));
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
  return F32x16(_mm512_mul_ps(a.v, b.v));
}
inline F32x16 operator/(F32x16 a, F32x16 b) {
  return F32x16(_mm512_div_ps(a.v, b.v));
}
inline Mask16 less(F32x16 a, F32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
inline Mask16 equal(F32x16 a, F32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)};
}
inline F32x16 select(Mask16 mask, F32x16 a, F32x16 b) {
  return F32x16(_mm512_mask_blend_ps(mask.m, b.v, a.v));
}
inline F32x16 fma_of(F32x16 a, F32x16 b, F32x16 c) {
  return F32x16(_mm512_fmadd_ps(a.v, b.v, c.v));
}
inline F32x16 sqrt_of(F32x16 x) {
  return F32x16(_mm512_sqrt_ps(x.v));
}
// Of numbers that are not NaN; which zero is taken is left open.
inline F32x16 larger_of(F32x16 a, F32x16 b) {
  return F32x16(_mm512_max_ps(a.v, b.v));
}
inline F32x16 smaller_of(F32x16 a, F32x16 b) {
  return F32x16(_mm512_min_ps(a.v, b.v));
}
inline F32x16 abs_of(F32x16 x) {
  return F32x16(_mm512_abs_ps(x.v));
}
inline F32x16 copy_sign(F32x16 magnitude, F32x16 sign) {
  __m512i bit = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  __m512i other = _mm512_andnot_si512(bit, _mm512_castps_si512(magnitude.v));
  __m512i taken = _mm512_and_si512(bit, _mm512_castps_si512(sign.v));
  return F32x16(_mm512_castsi512_ps(_mm512_or_si512(other, taken)));
}

// math::at_least and math::at_most: the instructions give their second operand for NaN and for zeros of two signs.
inline F32x16 at_least(F32x16 x, F32x16 lo) {
  return F32x16(_mm512_max_ps(lo.v, x.v));
}
inline F32x16 at_most(F32x16 x, F32x16 hi) {
  return F32x16(_mm512_min_ps(hi.v, x.v));
}

inline F32x16 number_at_least(F32x16 x, F32x16 lo) {
  return F32x16(_mm512_max_ps(x.v, lo.v));
}

inline F32x16 scale_normal(F32x16 v, F32x16 magic) {
  __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(magic.v), 23);
  return F32x16(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v.v), exponent)));
}
inline F32x16 scale_by_magic(F32x16 v, F32x16 magic) {
  return F32x16(_mm512_scalef_ps(v.v, _mm512_sub_ps(magic.v, _mm512_set1_ps(0x1.8p23f))));
}

inline F32x16 split_exponent(F32x16 x, F32x16* exponent) {
  __m512i sqrt_half = _mm512_set1_epi32(0x3f3504f3);
  __m512i bits = _mm512_sub_epi32(_mm512_castps_si512(x.v), sqrt_half);
  exponent->v = _mm512_cvtepi32_ps(_mm512_srai_epi32(bits, 23));
  __m512i mantissa = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffff));
  return F32x16(_mm512_castsi512_ps(_mm512_add_epi32(mantissa, sqrt_half)));
}

inline __mmask16 first_16(std::int64_t n) {
  return static_cast<__mmask16>((1u << n) - 1);
}
// The first n (0 to 16) floats; the other lanes are +0 and memory behind them is not touched.
inline F32x16 load_first_16(const float* p, std::int64_t n) {
  return F32x16(_mm512_maskz_loadu_ps(first_16(n), p));
}
inline void store_first_16(float* p, F32x16 x, std::int64_t n) {
  _mm512_mask_storeu_ps(p, first_16(n), x.v);
}

}  // namespace
}  // namespace aoq::cpu
