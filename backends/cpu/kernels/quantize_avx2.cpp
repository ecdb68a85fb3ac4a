#include "backends/cpu/kernels/quantize.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/rounding_avx2.h"

namespace aoq::cpu {

void quantize_f32_avx2(const QuantizeParams& p, const float* x, void* out, std::int64_t n) {
  RequantBounds bounds = {static_cast<float>(p.qmin - p.zero_point), static_cast<float>(p.qmax - p.zero_point),
                          p.zero_point};
  ByteRounder rounder = rounder_of(bounds, p.type);
  F32x8 inv_scale(p.inv_scale);
  F32x8 lo(bounds.lo);
  auto* to = static_cast<std::uint8_t*>(out);
  for (std::int64_t i = 0; i < n; i += 16) {
    std::int64_t left = n - i;
    F32x8 low = load_first(x + i, left) * inv_scale;
    F32x8 high = left > 8 ? load_first(x + i + 8, left - 8) * inv_scale : low;
    // Gives lo for NaN.
    low = F32x8(_mm256_max_ps(low.v, lo.v));
    high = F32x8(_mm256_max_ps(high.v, lo.v));
    store_first_bytes(to + i, round_to_bytes(low, high, rounder), left);
  }
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
