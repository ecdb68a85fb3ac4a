#include "backends/cpu/kernels/quantize.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/rounding_avx2.h"

namespace aoq::cpu {

namespace {

// 32 floats to codes, the least one for NaN.
__attribute__((always_inline)) inline __m256i codes_of(const float* x, __m256 inv_scale, const ByteRounder& r) {
  __m256i rounded[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    // The minimum passes NaN on, which becomes the least integer and saturates from there.
    rounded[i] = _mm256_cvtps_epi32(_mm256_min_ps(r.hi.v, _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inv_scale)));
  }
  const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), r.zero_point);
  const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(rounded[2], rounded[3]), r.zero_point);
  const __m256i least = _mm256_broadcastsi128_si256(r.least);
  const __m256i codes = r.is_signed ? _mm256_max_epi8(_mm256_packs_epi16(low, high), least)
                                    : _mm256_max_epu8(_mm256_packus_epi16(low, high), least);
  // Packing works within lanes of 16 bytes.
  return _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

}  // namespace

void quantize_f32_avx2(const QuantizeParams& p, const float* x, void* out, std::int64_t n) {
  RequantBounds bounds = {static_cast<float>(p.qmin - p.zero_point), static_cast<float>(p.qmax - p.zero_point),
                          p.zero_point};
  const ByteRounder rounder = rounder_of(bounds, p.type);
  const __m256 inv_scale = _mm256_set1_ps(p.inv_scale);
  auto* to = static_cast<std::uint8_t*>(out);
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), codes_of(x + i, inv_scale, rounder));
  }
  if (i == n) return;
  float last[32] = {};
  for (std::int64_t k = 0; k < n - i; ++k) last[k] = x[i + k];
  const __m256i codes = codes_of(last, inv_scale, rounder);
  store_first_bytes(to + i, _mm256_castsi256_si128(codes), min_of(n - i, 16));
  if (n - i > 16) store_first_bytes(to + i + 16, _mm256_extracti128_si256(codes, 1), n - i - 16);
}

void dequantize_bytes_avx2(const DequantizeParams& p, const void* x, float* out, std::int64_t n) {
  const auto* in = static_cast<const std::uint8_t*>(x);
  __m256i zero_point = _mm256_set1_epi32(p.zero_point);
  F32x8 scale(p.scale);
  for (std::int64_t i = 0; i < n; i += 16) {
    std::int64_t left = n - i;
    Floats16 v = centered_floats(load_first_bytes(in + i, left), p.type == DType::i8, zero_point);
    store_first(out + i, v.low * scale, left);
    if (left > 8) store_first(out + i + 8, v.high * scale, left - 8);
  }
}

void requantize_bytes_avx2(const RequantizeParams& p, const void* x, void* out, std::int64_t n) {
  const auto* in = static_cast<const std::uint8_t*>(x);
  auto* to = static_cast<std::uint8_t*>(out);
  ByteRounder rounder = rounder_of(p.bounds, p.out_type);
  __m256i zero_point = _mm256_set1_epi32(p.x_zero_point);
  F32x8 scale(p.x_scale), inverse(p.inv_out);
  for (std::int64_t i = 0; i < n; i += 16) {
    Floats16 v = centered_floats(load_first_bytes(in + i, n - i), p.x_type == DType::i8, zero_point);
    store_first_bytes(to + i, round_to_bytes((v.low * scale) * inverse, (v.high * scale) * inverse, rounder), n - i);
  }
}

// Sixteen shuffles, one per 16 entries: x - 16 * i is below 16 only in its own table, and the saturating addition sets
// bit 7 (a zero from the shuffle) everywhere else.
void look_up_bytes_avx2(const std::uint8_t* table, const void* x, void* out, std::int64_t n) {
  const auto* in = static_cast<const std::uint8_t*>(x);
  auto* to = static_cast<std::uint8_t*>(out);
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i index = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
    __m256i found = _mm256_setzero_si256();
    for (int t = 0; t < 16; ++t) {
      __m256i entries = _mm256_broadcastsi128_si256(load_bytes(table + 16 * t));
      __m256i selector = _mm256_adds_epu8(index, _mm256_set1_epi8(0x70));
      found = _mm256_or_si256(found, _mm256_shuffle_epi8(entries, selector));
      index = _mm256_sub_epi8(index, _mm256_set1_epi8(16));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), found);
  }
  for (; i < n; ++i) to[i] = table[in[i]];
}

Range range_of_avx2(const float* x, std::int64_t n) {
  F32x8 least(__builtin_inff());
  F32x8 most(-__builtin_inff());
  F32x8 zero(0.0f);
  for (std::int64_t i = 0; i < n; i += 8) {
    F32x8 v = load_first(x + i, n - i) + zero;
    F32x8 mask(_mm256_castsi256_ps(first_lanes(min_of(n - i, 8))));
    least = minimum_of(least, select(mask, v, least));
    most = maximum_of(most, select(mask, v, most));
  }
  auto smaller = [](F32x8 a, F32x8 b) { return minimum_of(a, b); };
  auto larger = [](F32x8 a, F32x8 b) { return maximum_of(a, b); };
  return {combine_lanes(least, least, smaller), combine_lanes(most, most, larger)};
}

}  // namespace aoq::cpu
