// Between floats and codes sixteen at a time; and tables of 256 codes by two permutations of 128 each, for processors
// that have AVX512-VBMI as well.
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"
#include "backends/cpu/kernels/tile_end_avx512.h"

namespace aoq::cpu {
namespace {

struct Table {
  __m512i quarters[4];
};

__attribute__((target("avx512vbmi"))) inline __m512i look_up(const Table& t, __m512i codes) {
  const __m512i low = _mm512_permutex2var_epi8(t.quarters[0], codes, t.quarters[1]);
  const __m512i high = _mm512_permutex2var_epi8(t.quarters[2], codes, t.quarters[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
}

}  // namespace

void quantize_f32_avx512(const QuantizeParams& p, const float* x, void* out, std::int64_t n) {
  const float lo = static_cast<float>(p.qmin - p.zero_point), hi = static_cast<float>(p.qmax - p.zero_point);
  const Codes codes = codes_of(p.type == DType::i8, p.zero_point, lo, hi);
  const __m512 inv_scale = _mm512_set1_ps(p.inv_scale), most = _mm512_set1_ps(hi);
  auto* to = static_cast<std::uint8_t*>(out);
  // The minimum passes NaN on, which becomes the least integer as what is too small does.
  const auto rounded = [&](__m512 v) { return _mm512_cvtps_epi32(_mm512_min_ps(most, _mm512_mul_ps(v, inv_scale))); };
  const auto codes_of_all = [&](const __m512(&v)[4]) {
    return packed_codes(codes, rounded(v[0]), rounded(v[1]), rounded(v[2]), rounded(v[3]));
  };
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512 v[4] = {_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i + 32),
                         _mm512_loadu_ps(x + i + 48)};
    _mm512_storeu_si512(to + i, codes_of_all(v));
  }
  if (i == n) return;
  __m512 v[4];
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm512_maskz_loadu_ps(first_16(max_of(min_of(n - i - 16 * k, 16), 0)), x + i + 16 * k);
  }
  _mm512_mask_storeu_epi8(to + i, ~std::uint64_t{0} >> (64 - (n - i)), codes_of_all(v));
}

void dequantize_bytes_avx512(const DequantizeParams& p, const void* x, float* out, std::int64_t n) {
  const auto* in = static_cast<const std::uint8_t*>(x);
  // Signed codes as unsigned ones, with their zero point.
  const bool is_signed = p.type == DType::i8;
  const __m128i flip = _mm_set1_epi8(is_signed ? -128 : 0);
  const __m512i zero_point = _mm512_set1_epi32(p.zero_point + (is_signed ? 128 : 0));
  const __m512 scale = _mm512_set1_ps(p.scale);
  for (std::int64_t i = 0; i < n; i += 16) {
    const __mmask16 some = first_16(min_of(n - i, 16));
    const __m128i codes = _mm_xor_si128(_mm_maskz_loadu_epi8(some, in + i), flip);
    const __m512i steps = _mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), zero_point);
    _mm512_mask_storeu_ps(out + i, some, _mm512_mul_ps(_mm512_cvtepi32_ps(steps), scale));
  }
}

__attribute__((target("avx512vbmi"))) void look_up_bytes_avx512_vbmi(const std::uint8_t* table, const void* x,
                                                                     void* out, std::int64_t n) {
  const auto* in = static_cast<const std::uint8_t*>(x);
  auto* to = static_cast<std::uint8_t*>(out);
  Table t;
  for (int i = 0; i < 4; ++i) t.quarters[i] = _mm512_loadu_si512(table + 64 * i);
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(to + i, look_up(t, _mm512_loadu_si512(in + i)));
  if (i == n) return;
  const __mmask64 mask = ~std::uint64_t{0} >> (64 - (n - i));
  _mm512_mask_storeu_epi8(to + i, mask, look_up(t, _mm512_maskz_loadu_epi8(mask, in + i)));
}

}  // namespace aoq::cpu
