// Sixteen floats to codes as round_and_clamp of ir/epilogue.h, for AVX2 translation units only.
#pragma once

#include "backends/cpu/kernels/bytes_avx2.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"

namespace aoq::cpu {
namespace {

// See epilogue_s8_avx2.h for why the bounds are applied at two places.
struct ByteRounder {
  F32x8 hi;
  __m256i zero_point;
  __m128i least;
  bool is_signed;
};

inline ByteRounder rounder_of(const RequantBounds& bounds, DType type) {
  ByteRounder r;
  r.hi = F32x8(bounds.hi);
  r.zero_point = _mm256_set1_epi16(static_cast<short>(bounds.zero_point));
  r.least = _mm_set1_epi8(static_cast<char>(static_cast<int>(bounds.lo) + bounds.zero_point));
  r.is_signed = type == DType::i8;
  return r;
}

inline __m128i round_to_bytes(F32x8 low, F32x8 high, const ByteRounder& r) {
  __m256i first = _mm256_cvtps_epi32(_mm256_min_ps(low.v, r.hi.v));
  __m256i second = _mm256_cvtps_epi32(_mm256_min_ps(high.v, r.hi.v));
  __m256i s16 = _mm256_adds_epi16(_mm256_packs_epi32(first, second), r.zero_point);
  s16 = _mm256_permute4x64_epi64(s16, 0xd8);
  __m128i a = _mm256_castsi256_si128(s16);
  __m128i b = _mm256_extracti128_si256(s16, 1);
  return r.is_signed ? _mm_max_epi8(_mm_packs_epi16(a, b), r.least) : _mm_max_epu8(_mm_packus_epi16(a, b), r.least);
}

// Codes minus a zero point, exact, as floats of bytes 0-7 and 8-15.
struct Floats16 {
  F32x8 low, high;
};
inline Floats16 centered_floats(__m128i bytes, bool is_signed, __m256i zero_point) {
  __m256i low = _mm256_sub_epi32(widen_to_s32(bytes, is_signed), zero_point);
  __m256i high = _mm256_sub_epi32(widen_to_s32(_mm_srli_si128(bytes, 8), is_signed), zero_point);
  return {F32x8(_mm256_cvtepi32_ps(low)), F32x8(_mm256_cvtepi32_ps(high))};
}

}  // namespace
}  // namespace aoq::cpu
