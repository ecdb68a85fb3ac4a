// The int8 epilogue on rows of 16 channels, for AVX2 translation units only. Equals store_epilogue_scalar.
//
// The upper bound is applied before the conversion to int32 (a large float would convert to INT_MIN), the lower bound
// on the packed bytes: bounds are integers, so clamping commutes with rounding, and the packs saturate like [qmin,
// qmax].
#pragma once

#include <cmath>

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

inline void store_tile_bytes(const EpilogueS8& e, const EpilogueArgs& args, const TileTarget& target,
                             const std::int32_t* acc) {
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

// stays_small of epilogue_s8.h, for 16 channels.
inline bool channels_stay_small(const EpilogueS8& e, std::int64_t products, const float* bias,
                                const float* multiplier) {
  const F32x8 most_sum(255.0f * 128.0f * static_cast<float>(products));
  const F32x8 residual(e.has_residual ? 255.0f * std::fabs(e.residual_multiplier) : 0.0f);
  int small = 0xff;
  for (int half = 0; half < 2; ++half) {
    const F32x8 b(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), load(bias + 8 * half).v));
    const F32x8 most = (most_sum + b) * load(multiplier + 8 * half) + residual;
    small &= _mm256_movemask_ps(_mm256_cmp_ps(most.v, _mm256_set1_ps(0x1p30f), _CMP_LT_OQ));
  }
  return small == 0xff;
}

// The common case, for kernels that finish their sums of so many products at once: codes without a curved activation
// that stay in int32 before they are clamped, whole vectors of 8 or 16 channels.
inline bool has_plain_epilogue(const EpilogueS8& e, const EpilogueArgs& args, std::int64_t products,
                               std::int64_t channel, std::int64_t columns) {
  return e.out_type != DType::f32 && e.activation.kind == Activation::none && columns % 8 == 0 &&
         channels_stay_small(e, products, args.bias + channel, args.multiplier + channel);
}

// How the residual of a plain epilogue is read.
enum class Addend : std::uint8_t { none, u8, i8 };

inline Addend addend_of(const EpilogueS8& e) {
  if (!e.has_residual) return Addend::none;
  return e.residual_type == DType::i8 ? Addend::i8 : Addend::u8;
}

struct PlainEpilogue {
  const float* bias;  // of 16 channels
  const float* multiplier;
  __m256i zero_point;
  __m256i least, most;  // codes
  __m256i residual_zero_point;
  __m256 residual_multiplier;
};

inline PlainEpilogue plain_epilogue(const EpilogueS8& e, const EpilogueArgs& args, std::int64_t channel) {
  PlainEpilogue plain;
  plain.bias = args.bias + channel;
  plain.multiplier = args.multiplier + channel;
  plain.zero_point = _mm256_set1_epi32(e.bounds.zero_point);
  plain.least = _mm256_set1_epi8(static_cast<char>(static_cast<int>(e.bounds.lo) + e.bounds.zero_point));
  plain.most = _mm256_set1_epi8(static_cast<char>(static_cast<int>(e.bounds.hi) + e.bounds.zero_point));
  plain.residual_zero_point = _mm256_set1_epi32(e.residual_zero_point);
  plain.residual_multiplier = _mm256_set1_ps(e.residual_multiplier);
  return plain;
}

// Channels [8 * half, 8 * half + 8) of one row; `residual`: the row's first. The zero point is added to int32, which
// has room for it: saturating sums of s16 would take the multipliers' place.
template <Addend kAddend, bool kWhole = false>
inline __m256i plain_rounded(const PlainEpilogue& e, __m256i sum, int half, const std::uint8_t* residual) {
  F32x8 v = (F32x8(_mm256_cvtepi32_ps(sum)) + load(e.bias + 8 * half)) * load(e.multiplier + 8 * half);
  if constexpr (kAddend != Addend::none) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(residual + 8 * half));
    const __m256i r = _mm256_sub_epi32(widen_to_s32(bytes, kAddend == Addend::i8), e.residual_zero_point);
    v = v + F32x8(_mm256_cvtepi32_ps(r)) * F32x8(e.residual_multiplier);
  }
  const __m256i rounded = _mm256_cvtps_epi32(v.v);
  return kWhole ? rounded : _mm256_add_epi32(rounded, e.zero_point);
}

// Bounds are integers, so what saturating packs and the clamp of bytes do commutes with rounding. kWhole: see
// has_whole_codes.
template <bool kSigned, bool kWhole>
inline __m256i saturate_to_bytes(const PlainEpilogue& e, __m256i first, __m256i second) {
  if constexpr (kSigned) {
    return _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(first, second), e.least), e.most);
  }
  if constexpr (kWhole) return _mm256_packus_epi16(first, second);
  return _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(first, second), e.least), e.most);
}

// Two rows of 16 sums, and of residuals, to 2 x 16 codes.
template <bool kSigned, Addend kAddend, bool kWhole = false>
inline __m256i plain_rows(const PlainEpilogue& e, const __m256i (&first)[2], const __m256i (&second)[2],
                          const std::uint8_t* first_residual, const std::uint8_t* second_residual) {
  __m256i a = _mm256_packs_epi32(plain_rounded<kAddend, kWhole>(e, first[0], 0, first_residual),
                                 plain_rounded<kAddend, kWhole>(e, first[1], 1, first_residual));
  __m256i b = _mm256_packs_epi32(plain_rounded<kAddend, kWhole>(e, second[0], 0, second_residual),
                                 plain_rounded<kAddend, kWhole>(e, second[1], 1, second_residual));
  __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(saturate_to_bytes<kSigned, kWhole>(e, a, b), order);
}

// Two rows of 8 sums to 2 x 8 codes.
template <bool kSigned, Addend kAddend>
inline __m128i plain_half_rows(const PlainEpilogue& e, __m256i first, __m256i second,
                               const std::uint8_t* first_residual, const std::uint8_t* second_residual) {
  __m256i both = _mm256_packs_epi32(plain_rounded<kAddend>(e, first, 0, first_residual),
                                    plain_rounded<kAddend>(e, second, 0, second_residual));
  __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i bytes = saturate_to_bytes<kSigned, false>(e, both, both);
  return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order));
}

// Where a tile of plain codes goes, and where its residual lies, of the same pitch.
struct PlainTarget {
  std::uint8_t* out;
  const std::uint8_t* residual;
  std::int64_t pitch;
};

// Sums in registers to codes; the rows' last pair may be one row twice.
template <int kRows, int kHalves, bool kSigned, Addend kAddend, bool kWhole = false>
inline __attribute__((always_inline)) void store_codes(const PlainEpilogue& e, const __m256i (&sum)[kRows][kHalves],
                                                       PlainTarget to) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; r += 2) {
    constexpr int kLast = kRows - 1;
    const int next = r + 1 < kRows ? r + 1 : kLast;
    const std::uint8_t* residual = kAddend == Addend::none ? nullptr : to.residual + r * to.pitch;
    const std::uint8_t* next_residual = kAddend == Addend::none ? nullptr : to.residual + next * to.pitch;
    std::uint8_t* out = to.out + r * to.pitch;
    if constexpr (kHalves == 2) {
      const __m256i bytes = plain_rows<kSigned, kAddend, kWhole>(e, sum[r], sum[next], residual, next_residual);
      store_bytes(out, _mm256_castsi256_si128(bytes));
      if (r + 1 < kRows) store_bytes(out + to.pitch, _mm256_extracti128_si256(bytes, 1));
    } else {
      const __m128i bytes = plain_half_rows<kSigned, kAddend>(e, sum[r][0], sum[next][0], residual, next_residual);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out), bytes);
      if (r + 1 < kRows) _mm_storel_epi64(reinterpret_cast<__m128i*>(out + to.pitch), _mm_srli_si128(bytes, 8));
    }
  }
}

// Sums in memory, [row][16].
template <int kRows, int kHalves, bool kSigned, Addend kAddend>
inline __attribute__((always_inline)) void finish_codes(const PlainEpilogue& e, const std::int32_t* acc,
                                                        PlainTarget to) {
#pragma GCC unroll 3
  for (int r = 0; r < kRows; r += 2) {
    constexpr int kPair = 2;
    __m256i sum[kPair][kHalves];
#pragma GCC unroll 2
    for (int i = 0; i < kPair; ++i) {
      const int row = r + i < kRows ? r + i : r;
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        sum[i][h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(acc + 16 * row + 8 * h));
      }
    }
    const PlainTarget pair = {to.out + r * to.pitch, kAddend == Addend::none ? nullptr : to.residual + r * to.pitch,
                              to.pitch};
    if (r + 1 < kRows) {
      store_codes<kPair, kHalves, kSigned, kAddend>(e, sum, pair);
    } else {
      const __m256i(&one)[1][kHalves] = reinterpret_cast<const __m256i(&)[1][kHalves]>(sum);
      store_codes<1, kHalves, kSigned, kAddend>(e, one, pair);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
