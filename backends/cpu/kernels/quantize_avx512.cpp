// Between floats and codes sixteen at a time; and tables of 256 codes by two permutations of 128 each, for processors
// that have AVX512-VBMI as well.
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"

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

// Rounds 64 floats to codes. Too small ones and NaN become the least integer, which saturates at every step from there.
class Quantizer {
 public:
  explicit Quantizer(const QuantizeParams& p)
      : inv_scale_(_mm512_set1_ps(p.inv_scale)),
        most_(_mm512_set1_ps(static_cast<float>(p.qmax - p.zero_point))),
        zero_point_(_mm512_set1_epi16(static_cast<short>(p.zero_point))),
        least_(_mm512_set1_epi8(static_cast<char>(p.qmin))),
        is_signed_(p.type == DType::i8) {}

  __m512i codes(const __m512 (&x)[4]) const {
    __m512i shorts[2];
    for (int i = 0; i < 2; ++i) {
      shorts[i] = _mm512_adds_epi16(_mm512_packs_epi32(rounded(x[2 * i]), rounded(x[2 * i + 1])), zero_point_);
    }
    const __m512i packed = is_signed_ ? _mm512_max_epi8(_mm512_packs_epi16(shorts[0], shorts[1]), least_)
                                      : _mm512_max_epu8(_mm512_packus_epi16(shorts[0], shorts[1]), least_);
    // Packing works within lanes of 16 bytes.
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed);
  }

 private:
  // The minimum passes NaN on.
  __m512i rounded(__m512 x) const { return _mm512_cvtps_epi32(_mm512_min_ps(most_, _mm512_mul_ps(x, inv_scale_))); }

  __m512 inv_scale_, most_;
  __m512i zero_point_, least_;
  bool is_signed_;
};

}  // namespace

void quantize_f32_avx512(const QuantizeParams& p, const float* x, void* out, std::int64_t n) {
  const Quantizer quantizer(p);
  auto* to = static_cast<std::uint8_t*>(out);
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512 v[4] = {_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i + 32),
                         _mm512_loadu_ps(x + i + 48)};
    _mm512_storeu_si512(to + i, quantizer.codes(v));
  }
  if (i == n) return;
  __m512 v[4];
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm512_maskz_loadu_ps(first_16(max_of(min_of(n - i - 16 * k, 16), 0)), x + i + 16 * k);
  }
  _mm512_mask_storeu_epi8(to + i, ~std::uint64_t{0} >> (64 - (n - i)), quantizer.codes(v));
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
