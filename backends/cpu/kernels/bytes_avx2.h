// Sixteen codes at a time, u8 or i8: partial loads and stores, widening. For AVX2 translation units only.
#pragma once

#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

// Memory that may hold any type at any address.
typedef std::int64_t AnyInt64 __attribute__((may_alias, aligned(1)));
typedef std::int32_t AnyInt32 __attribute__((may_alias, aligned(1)));
typedef std::int16_t AnyInt16 __attribute__((may_alias, aligned(1)));

inline __m128i load_bytes(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline void store_bytes(void* p, __m128i v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), v);
}

// The first n of 16 bytes; memory behind them is not touched.
inline void store_first_bytes(void* p, __m128i v, std::int64_t n) {
  if (n >= 16) return store_bytes(p, v);
  auto* out = static_cast<std::uint8_t*>(p);
  if ((n & 8) != 0) {
    *reinterpret_cast<AnyInt64*>(out) = _mm_cvtsi128_si64(v);
    v = _mm_srli_si128(v, 8);
    out += 8;
  }
  if ((n & 4) != 0) {
    *reinterpret_cast<AnyInt32*>(out) = _mm_cvtsi128_si32(v);
    v = _mm_srli_si128(v, 4);
    out += 4;
  }
  if ((n & 2) != 0) {
    *reinterpret_cast<AnyInt16*>(out) = static_cast<std::int16_t>(_mm_extract_epi16(v, 0));
    v = _mm_srli_si128(v, 2);
    out += 2;
  }
  if ((n & 1) != 0) *out = static_cast<std::uint8_t>(_mm_extract_epi8(v, 0));
}

inline __m128i load_first_bytes(const void* p, std::int64_t n) {
  if (n >= 16) return load_bytes(p);
  alignas(16) std::uint8_t bytes[16] = {};
  copy_bytes(bytes, p, n);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
}

template <bool kSigned>
inline __m256i widen_to_s16(__m128i bytes) {
  return kSigned ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes);
}

// Bytes 0 to 7 as eight int32.
inline __m256i widen_to_s32(__m128i bytes, bool is_signed) {
  return is_signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes);
}

}  // namespace
}  // namespace aoq::cpu
