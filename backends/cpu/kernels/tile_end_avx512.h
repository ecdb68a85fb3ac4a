// The end of a tile of int32 sums, rows of one or two panels of 16 output channels, for AVX-512 translation units only.
// Equals store_epilogue_scalar.
#pragma once

#include <cmath>

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/simd_avx512.h"

#define AOQ_INLINE inline __attribute__((always_inline))

namespace aoq::cpu {
namespace {

// Rows of sums in memory at most.
constexpr int kEndRows = 14;

// What a tile's sums become, for one or two panels.
struct TileEnd {
  const float* bias;
  const float* multiplier;
  float lo, hi;
  std::int32_t zero_point;
  bool is_signed;
  __mmask32 mask;  // the columns there are
  std::uint8_t* out;
  std::int64_t pitch;
  const std::uint8_t* residual;      // codes or floats, or null
  std::int32_t residual_zero_point;  // of codes as u8
  std::int32_t residual_flip;        // turns signed codes into unsigned ones
  float residual_multiplier;
  float x_scale;
  float inv_out;       // after hardswish
  std::int32_t* sums;  // for ends of other kinds: [panels][kEndRows][16]
};

enum class End : std::uint8_t { codes, codes_with_residual, codes_of_hardswish, floats, sums };

// Whether codes need no more than saturation, as u8 with all its values and a zero point of 0 after a relu, and fill
// their panels, so that nothing is masked. Those of a residual are alike where codes are plain; in saturated ones they
// may have a zero point and signs.
enum class Range : std::uint8_t { any, saturated, plain };

// float(r - zero point) * multiplier of 16 channels.
template <Range kRange = Range::any>
AOQ_INLINE __m512 residual_of(const TileEnd& e, int c, const std::uint8_t* residual) {
  __m512i steps;
  if constexpr (kRange == Range::plain) {
    steps = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(residual)));
  } else {
    const __m128i loaded = kRange == Range::saturated
                               ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(residual))
                               : _mm_maskz_loadu_epi8(static_cast<__mmask16>(e.mask >> (16 * c)), residual);
    const __m128i bytes = _mm_xor_si128(loaded, _mm_set1_epi8(static_cast<char>(e.residual_flip)));
    steps = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(e.residual_zero_point));
  }
  return _mm512_mul_ps(_mm512_cvtepi32_ps(steps), _mm512_set1_ps(e.residual_multiplier));
}

// Two panels' bias and multiplier.
struct Scale {
  __m512 bias, multiplier;
};

AOQ_INLINE Scale scale_of(const TileEnd& e, int c) {
  return {_mm512_loadu_ps(e.bias + 16 * c), _mm512_loadu_ps(e.multiplier + 16 * c)};
}

// One sum of 16 channels to int32 without the zero point. Bounds are integers, so what saturating packs and the clamp
// of bytes do afterwards commutes with rounding: nothing is clamped here, where panels_stay_small. The row's residuals
// are `at` bytes on.
template <bool kResidual, Range kRange = Range::any>
AOQ_INLINE __m512i rounded(const TileEnd& e, const Scale& scale, __m512i sum, int c, const std::uint8_t* residual,
                           std::int64_t at) {
  __m512 v = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(sum), scale.bias), scale.multiplier);
  if constexpr (kResidual) v = _mm512_add_ps(v, residual_of<kRange>(e, c, residual + at + 16 * c));
  return _mm512_cvtps_epi32(v);
}

// The same of the first 8 channels, in half the time.
template <bool kResidual>
AOQ_INLINE __m512i rounded_half(const TileEnd& e, const Scale& scale, __m512i sum, int c, const std::uint8_t* residual,
                                std::int64_t at) {
  const __m256 biased =
      _mm256_add_ps(_mm256_cvtepi32_ps(_mm512_castsi512_si256(sum)), _mm512_castps512_ps256(scale.bias));
  __m256 v = _mm256_mul_ps(biased, _mm512_castps512_ps256(scale.multiplier));
  if constexpr (kResidual) {
    const auto mask = static_cast<__mmask16>(e.mask >> (16 * c));
    const __m128i loaded = _mm_maskz_loadu_epi8(mask, residual + at + 16 * c);
    const __m128i bytes = _mm_xor_si128(loaded, _mm_set1_epi8(static_cast<char>(e.residual_flip)));
    const __m256i steps = _mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_set1_epi32(e.residual_zero_point));
    v = _mm256_add_ps(v, _mm256_mul_ps(_mm256_cvtepi32_ps(steps), _mm256_set1_ps(e.residual_multiplier)));
  }
  return _mm512_castsi256_si512(_mm256_cvtps_epi32(v));
}

// How int32 without the zero point becomes a code: as u8 first, with a zero point 128 higher for signed ones.
struct Codes {
  __m512i zero_point, least, most, flip;
  bool are_all;  // of u8: saturation has clamped already
};

AOQ_INLINE Codes codes_of(bool is_signed, std::int32_t zero_point, float lo, float hi) {
  const std::int32_t shift = is_signed ? 128 : 0, at = zero_point + shift;
  const std::int32_t least = static_cast<int>(lo) + at, most = static_cast<int>(hi) + at;
  return {.zero_point = _mm512_set1_epi32(at),
          .least = _mm512_set1_epi8(static_cast<char>(least)),
          .most = _mm512_set1_epi8(static_cast<char>(most)),
          .flip = _mm512_set1_epi8(static_cast<char>(shift)),
          .are_all = least == 0 && most == 255 && !is_signed};
}

AOQ_INLINE Codes codes_of(const TileEnd& e) {
  return codes_of(e.is_signed, e.zero_point, e.lo, e.hi);
}

// Four vectors of 16 values to 64 codes, the first vector's first.
template <Range kRange = Range::any>
AOQ_INLINE __m512i packed_codes(const Codes& to, __m512i a, __m512i b, __m512i c, __m512i d) {
  if constexpr (kRange == Range::any) {
    a = _mm512_add_epi32(a, to.zero_point);
    b = _mm512_add_epi32(b, to.zero_point);
    c = _mm512_add_epi32(c, to.zero_point);
    d = _mm512_add_epi32(d, to.zero_point);
  }
  __m512i codes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
  if (kRange == Range::any && !to.are_all) {
    codes = _mm512_xor_si512(_mm512_min_epu8(_mm512_max_epu8(codes, to.least), to.most), to.flip);
  }
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, codes);
}

AOQ_INLINE __m512i rounded_hardswish(const Scale& scale, __m512i sum, __m512 inv_out) {
  const __m512 v = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(sum), scale.bias), scale.multiplier);
  return _mm512_cvtps_epi32(_mm512_mul_ps(hardswish_of_normal(F32x16(v)).v, inv_out));
}

// stays_small of epilogue_s8.h, for these panels and sums of so many products.
inline bool panels_stay_small(const EpilogueS8& e, const TileEnd& end, std::int64_t products, int panels) {
  const __m512 most_sum = _mm512_set1_ps(255.0f * 128.0f * static_cast<float>(products));
  const __m512 residual = _mm512_set1_ps(e.has_residual ? 255.0f * std::fabs(e.residual_multiplier) : 0.0f);
  const __m512 scale = _mm512_set1_ps(e.activation.kind == Activation::none ? 1.0f : e.inv_out);
  const __m512 limit = _mm512_set1_ps(0x1p30f);
  __mmask16 small = _mm512_cmp_ps_mask(scale, _mm512_set1_ps(0x1p60f), _CMP_LT_OQ);
  for (int c = 0; c < panels; ++c) {
    const Scale panel = scale_of(end, c);
    const __m512 sum = _mm512_add_ps(most_sum, _mm512_abs_ps(panel.bias));
    const __m512 most = _mm512_add_ps(_mm512_mul_ps(sum, panel.multiplier), residual);
    small &= _mm512_cmp_ps_mask(most, limit, _CMP_LT_OQ);
    small &= _mm512_cmp_ps_mask(_mm512_mul_ps(most, scale), limit, _CMP_LT_OQ);
  }
  return small == 0xffff;
}

inline End end_of(const EpilogueS8& e, const TileEnd& end, std::int64_t products, int panels) {
  if (e.activation.kind == Activation::none && e.out_type == DType::f32) return End::floats;
  if (e.out_type == DType::f32 || !panels_stay_small(e, end, products, panels)) return End::sums;
  if (e.activation.kind == Activation::none) return e.has_residual ? End::codes_with_residual : End::codes;
  return e.activation.kind == Activation::hardswish && !e.has_residual ? End::codes_of_hardswish : End::sums;
}

// Of rows of `columns` (1 to 32) channels, the first at `channel` of the epilogue's arrays; where they go is set later.
inline TileEnd tile_end(const EpilogueS8& e, const EpilogueArgs& args, std::int64_t channel, std::int64_t columns) {
  TileEnd end;
  end.bias = args.bias + channel;
  end.multiplier = args.multiplier + channel;
  end.lo = e.bounds.lo;
  end.hi = e.bounds.hi;
  end.zero_point = e.bounds.zero_point;
  end.is_signed = e.out_type == DType::i8;
  end.mask = columns >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << columns) - 1;
  end.residual_flip = e.residual_type == DType::i8 ? 128 : 0;
  end.residual_zero_point = e.residual_zero_point + end.residual_flip;
  end.residual_multiplier = e.residual_multiplier;
  end.x_scale = args.x_scale;
  end.inv_out = e.inv_out;
  return end;
}

// Sums in memory, [panels][kEndRows][16], to floats.
template <typename Act>
void finish_floats(const TileEnd& end, std::int64_t rows, int panels, Act activation) {
  for (int c = 0; c < panels; ++c) {
    const auto mask = static_cast<__mmask16>(end.mask >> (16 * c));
    const F32x16 bias(_mm512_loadu_ps(end.bias + 16 * c));
    const F32x16 multiplier = F32x16(end.x_scale) * F32x16(_mm512_loadu_ps(end.multiplier + 16 * c));
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t at = r * end.pitch + 16 * c;
      const F32x16 sum(_mm512_cvtepi32_ps(_mm512_loadu_si512(end.sums + (c * kEndRows + r) * 16)));
      F32x16 v = sum * multiplier + bias;
      if (end.residual != nullptr) {
        v = v + F32x16(_mm512_maskz_loadu_ps(mask, reinterpret_cast<const float*>(end.residual) + at));
      }
      _mm512_mask_storeu_ps(reinterpret_cast<float*>(end.out) + at, mask, activation(v).v);
    }
  }
}

// Sums in memory to codes, four vectors at a time: two rows of two panels or four of one. Values are clamped as floats
// here, so that any multiplier is right.
template <int C, typename Act>
void finish_codes(const TileEnd& e, std::int64_t rows, float inv_out, Act activation) {
  constexpr int kTogether = 4 / C;
  const Codes to = codes_of(e);
  const Scale scales[2] = {scale_of(e, 0), scale_of(e, C - 1)};
  const __m512 lo = _mm512_set1_ps(e.lo), hi = _mm512_set1_ps(e.hi);
  const auto mask = static_cast<__mmask32>(C == 2 ? e.mask : e.mask & 0xffffu);
  const std::uint8_t* residual = e.residual;
  const std::int32_t* sums = e.sums;
  const std::int64_t pitch = e.pitch;
  std::uint8_t* out = e.out;
  alignas(64) std::uint8_t codes[64 + 32];  // rows are read 32 bytes at a time
  for (std::int64_t r = 0; r < rows; r += kTogether) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const std::int64_t row = min_of(r + i / C, rows - 1);
      const int c = i % C;
      const F32x16 sum(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums + (c * kEndRows + row) * 16)));
      F32x16 y = (sum + F32x16(scales[c].bias)) * F32x16(scales[c].multiplier);
      if (residual != nullptr) y = y + F32x16(residual_of(e, c, residual + row * pitch + 16 * c));
      y = activation(y) * F32x16(inv_out);
      v[i] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y.v, lo), hi));
    }
    _mm512_store_si512(codes, packed_codes(to, v[0], v[1], v[2], v[3]));
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      if (r + i == rows) break;
      const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 16 * C * i));
      _mm256_mask_storeu_epi8(out, mask, row);
      out += pitch;
    }
  }
}

// Residual, activation and rounding of sums in memory.
template <typename Act>
void finish_rows(const EpilogueS8& e, const TileEnd& end, std::int64_t rows, int panels, Act activation) {
  if (e.out_type == DType::f32) return finish_floats(end, rows, panels, activation);
  const float inv_out = e.activation.kind == Activation::none ? 1.0f : e.inv_out;
  if (panels == 2) return finish_codes<2>(end, rows, inv_out, activation);
  finish_codes<1>(end, rows, inv_out, activation);
}

inline void finish_sums(const EpilogueS8& e, const TileEnd& end, End kind, std::int64_t rows, int panels) {
  if (kind == End::codes_of_hardswish) {
    return finish_rows(e, end, rows, panels, [](F32x16 v) { return hardswish_of_normal(v); });
  }
  finish_rows(e, end, rows, panels, [&](F32x16 v) { return apply_activation_to(e.activation, v); });
}

}  // namespace
}  // namespace aoq::cpu
