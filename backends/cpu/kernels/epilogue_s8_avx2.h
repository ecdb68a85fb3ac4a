// The int8 epilogue on rows of 16 channels, for AVX2 translation units only. Equals store_epilogue_scalar.
//
// The upper bound is applied before the conversion to int32 (a large float would convert to INT_MIN), the lower bound
// on the packed bytes: bounds are integers, so clamping commutes with rounding, and the packs saturate like [qmin,
// qmax].
#pragma once

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/epilogue_s8.h"

namespace aoq::cpu {
namespace {

// Where a tile goes: `rows` rows of `columns` (1 to 16) channels, the first at element `index`, `pitch` elements apart.
struct TileTarget {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t index;
  std::int64_t pitch;
  std::int64_t channel;  // in the epilogue's arrays
};

struct EpilogueVectors {
  F32x8 bias[2];
  F32x8 multiplier[2];
  F32x8 hi;
  __m256i zero_point;
  __m256i least;
  bool is_signed;
};

inline EpilogueVectors load_epilogue(const EpilogueS8& e, const EpilogueArgs& args, std::int64_t channel) {
  EpilogueVectors v;
  for (int half = 0; half < 2; ++half) {
    v.bias[half] = load(args.bias + channel + 8 * half);
    v.multiplier[half] = load(args.multiplier + channel + 8 * half);
  }
  v.hi = F32x8(e.bounds.hi);
  v.zero_point = _mm256_set1_epi16(static_cast<short>(e.bounds.zero_point));
  v.least = _mm256_set1_epi8(static_cast<char>(static_cast<int>(e.bounds.lo) + e.bounds.zero_point));
  v.is_signed = e.out_type == DType::i8;
  return v;
}

__attribute__((noinline)) void add_residual_and_activate(const EpilogueS8& e, const void* residual, std::int64_t index,
                                                         std::int64_t columns, F32x8* v) {
  if (e.has_residual) {
    __m128i bytes = load_first_bytes(static_cast<const std::uint8_t*>(residual) + index, columns);
    bool is_signed = e.residual_type == DType::i8;
    __m256i zero_point = _mm256_set1_epi32(e.residual_zero_point);
    F32x8 scale(e.residual_multiplier);
    for (int half = 0; half < 2; ++half) {
      __m256i r = _mm256_sub_epi32(widen_to_s32(half == 0 ? bytes : _mm_srli_si128(bytes, 8), is_signed), zero_point);
      v[half] = v[half] + F32x8(_mm256_cvtepi32_ps(r)) * scale;
    }
  }
  if (e.activation.kind == Activation::none) return;
  for (int half = 0; half < 2; ++half) v[half] = apply_activation_x8(e.activation, v[half]) * F32x8(e.inv_out);
}

// One row as 16 s16 in the order of packs: channels 0-3, 8-11 | 4-7, 12-15.
inline __m256i requantize_row(const EpilogueS8& e, const EpilogueArgs& args, const EpilogueVectors& vectors,
                              const std::int32_t* acc, std::int64_t index, std::int64_t columns) {
  F32x8 v[2];
  for (int half = 0; half < 2; ++half) {
    F32x8 a(_mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(acc + 8 * half))));
    v[half] = (a + vectors.bias[half]) * vectors.multiplier[half];
  }
  if (e.has_residual || e.activation.kind != Activation::none) {
    add_residual_and_activate(e, args.residual, index, columns, v);
  }
  __m256i low = _mm256_cvtps_epi32(_mm256_min_ps(v[0].v, vectors.hi.v));
  __m256i high = _mm256_cvtps_epi32(_mm256_min_ps(v[1].v, vectors.hi.v));
  return _mm256_adds_epi16(_mm256_packs_epi32(low, high), vectors.zero_point);
}

// Two rows of s16 to two rows of bytes, channels back in order.
inline __m256i pack_rows(__m256i first, __m256i second, const EpilogueVectors& vectors) {
  __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i bytes = vectors.is_signed ? _mm256_max_epi8(_mm256_packs_epi16(first, second), vectors.least)
                                    : _mm256_max_epu8(_mm256_packus_epi16(first, second), vectors.least);
  return _mm256_permutevar8x32_epi32(bytes, order);
}

// One row of 16 whole channels with a residual and without a curved activation, in the order of packs.
template <bool kSignedResidual>
inline __m256i sum_row(const EpilogueVectors& vectors, const std::int32_t* acc, const std::uint8_t* residual,
                       __m256i zero_point, __m256 scale) {
  const __m128i bytes = load_bytes(residual);
  __m256i halves[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m128i part = half == 0 ? bytes : _mm_srli_si128(bytes, 8);
    const __m256i code = kSignedResidual ? _mm256_cvtepi8_epi32(part) : _mm256_cvtepu8_epi32(part);
    const __m256 r = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(code, zero_point)), scale);
    const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(acc + 8 * half));
    const F32x8 v = (F32x8(_mm256_cvtepi32_ps(a)) + vectors.bias[half]) * vectors.multiplier[half] + F32x8(r);
    halves[half] = _mm256_cvtps_epi32(_mm256_min_ps(v.v, vectors.hi.v));
  }
  return _mm256_adds_epi16(_mm256_packs_epi32(halves[0], halves[1]), vectors.zero_point);
}

template <bool kSignedResidual>
inline void store_sum_tile(const EpilogueS8& e, const EpilogueArgs& args, const TileTarget& target,
                           const std::int32_t* acc) {
  const EpilogueVectors vectors = load_epilogue(e, args, target.channel);
  const __m256i zero_point = _mm256_set1_epi32(e.residual_zero_point);
  const __m256 scale = _mm256_set1_ps(e.residual_multiplier);
  std::uint8_t* out = static_cast<std::uint8_t*>(args.out) + target.index;
  const std::uint8_t* residual = static_cast<const std::uint8_t*>(args.residual) + target.index;
  for (std::int64_t row = 0; row < target.rows; row += 2, out += 2 * target.pitch, residual += 2 * target.pitch) {
    const std::int64_t step = row + 1 < target.rows ? 1 : 0;
    const __m256i first = sum_row<kSignedResidual>(vectors, acc + 16 * row, residual, zero_point, scale);
    const __m256i second =
        sum_row<kSignedResidual>(vectors, acc + 16 * (row + step), residual + step * target.pitch, zero_point, scale);
    const __m256i bytes = pack_rows(first, second, vectors);
    store_bytes(out, _mm256_castsi256_si128(bytes));
    if (step == 1) store_bytes(out + target.pitch, _mm256_extracti128_si256(bytes, 1));
  }
}

inline void store_tile_bytes(const EpilogueS8& e, const EpilogueArgs& args, const TileTarget& target,
                             const std::int32_t* acc) {
  if (e.has_residual && e.activation.kind == Activation::none && target.columns == 16) {
    return e.residual_type == DType::i8 ? store_sum_tile<true>(e, args, target, acc)
                                        : store_sum_tile<false>(e, args, target, acc);
  }
  EpilogueVectors vectors = load_epilogue(e, args, target.channel);
  auto* out = static_cast<std::uint8_t*>(args.out);
  for (std::int64_t row = 0; row < target.rows; row += 2) {
    std::int64_t index = target.index + row * target.pitch;
    bool has_second = row + 1 < target.rows;
    __m256i first = requantize_row(e, args, vectors, acc + 16 * row, index, target.columns);
    __m256i second = first;
    if (has_second) {
      second = requantize_row(e, args, vectors, acc + 16 * (row + 1), index + target.pitch, target.columns);
    }
    __m256i bytes = pack_rows(first, second, vectors);
    store_first_bytes(out + index, _mm256_castsi256_si128(bytes), target.columns);
    if (!has_second) return;
    store_first_bytes(out + index + target.pitch, _mm256_extracti128_si256(bytes, 1), target.columns);
  }
}

inline void store_tile_f32(const EpilogueS8& e, const EpilogueArgs& args, const TileTarget& target,
                           const std::int32_t* acc) {
  F32x8 x_scale(args.x_scale);
  for (std::int64_t half = 0; half < 2; ++half) {
    std::int64_t columns = target.columns - 8 * half;
    if (columns <= 0) return;
    F32x8 multiplier = x_scale * load(args.multiplier + target.channel + 8 * half);
    F32x8 bias = load(args.bias + target.channel + 8 * half);
    for (std::int64_t row = 0; row < target.rows; ++row) {
      std::int64_t at = target.index + row * target.pitch + 8 * half;
      const auto* a = reinterpret_cast<const __m256i*>(acc + 16 * row + 8 * half);
      F32x8 y = F32x8(_mm256_cvtepi32_ps(_mm256_load_si256(a))) * multiplier + bias;
      if (e.has_residual) y = y + load_first(static_cast<const float*>(args.residual) + at, columns);
      if (e.activation.kind != Activation::none) y = apply_activation_x8(e.activation, y);
      store_first(static_cast<float*>(args.out) + at, y, columns);
    }
  }
}

// Writes an accumulator tile, [rows][16] int32 and 32-byte aligned.
inline void store_tile(const EpilogueS8& e, const EpilogueArgs& args, const TileTarget& target,
                       const std::int32_t* acc) {
  if (e.out_type == DType::f32) {
    store_tile_f32(e, args, target, acc);
  } else {
    store_tile_bytes(e, args, target, acc);
  }
}

// The common case, for kernels that finish their sums in registers: codes, no residual, no activation.
inline bool has_plain_epilogue(const EpilogueS8& e) {
  return e.out_type != DType::f32 && !e.has_residual && e.activation.kind == Activation::none;
}

struct PlainEpilogue {
  const float* bias;  // of 16 channels
  const float* multiplier;
  __m256 hi;
  __m256i zero_point;
  __m256i least;
};

inline PlainEpilogue plain_epilogue(const EpilogueS8& e, const EpilogueArgs& args, std::int64_t channel) {
  PlainEpilogue plain;
  plain.bias = args.bias + channel;
  plain.multiplier = args.multiplier + channel;
  plain.hi = _mm256_set1_ps(e.bounds.hi);
  plain.zero_point = _mm256_set1_epi16(static_cast<short>(e.bounds.zero_point));
  plain.least = _mm256_set1_epi8(static_cast<char>(static_cast<int>(e.bounds.lo) + e.bounds.zero_point));
  return plain;
}

inline __m256i plain_rounded(const PlainEpilogue& e, __m256i sum, int half) {
  __m256 v = _mm256_add_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(e.bias + 8 * half));
  v = _mm256_mul_ps(v, _mm256_loadu_ps(e.multiplier + 8 * half));
  return _mm256_cvtps_epi32(_mm256_min_ps(v, e.hi));
}

template <bool kSigned>
inline __m256i saturate_to_bytes(__m256i first, __m256i second, __m256i least) {
  return kSigned ? _mm256_max_epi8(_mm256_packs_epi16(first, second), least)
                 : _mm256_max_epu8(_mm256_packus_epi16(first, second), least);
}

// Two rows of 16 sums to 2 x 16 codes.
template <bool kSigned>
inline __m256i plain_rows(const PlainEpilogue& e, __m256i first_low, __m256i first_high, __m256i second_low,
                          __m256i second_high) {
  __m256i a = _mm256_packs_epi32(plain_rounded(e, first_low, 0), plain_rounded(e, first_high, 1));
  __m256i b = _mm256_packs_epi32(plain_rounded(e, second_low, 0), plain_rounded(e, second_high, 1));
  a = _mm256_adds_epi16(a, e.zero_point);
  b = _mm256_adds_epi16(b, e.zero_point);
  __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(saturate_to_bytes<kSigned>(a, b, e.least), order);
}

// Two rows of 8 sums to 2 x 8 codes.
template <bool kSigned>
inline __m128i plain_half_rows(const PlainEpilogue& e, __m256i first, __m256i second) {
  __m256i both = _mm256_packs_epi32(plain_rounded(e, first, 0), plain_rounded(e, second, 0));
  both = _mm256_adds_epi16(both, e.zero_point);
  __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i bytes = saturate_to_bytes<kSigned>(both, both, e.least);
  return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order));
}

}  // namespace
}  // namespace aoq::cpu
