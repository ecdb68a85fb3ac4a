// Tables of 256 codes by two permutations of 128 each, for processors that have AVX512-VBMI as well.
#include <immintrin.h>

#include "backends/cpu/kernels/entry_avx512.h"

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
