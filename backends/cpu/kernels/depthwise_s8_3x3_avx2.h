// int8 depthwise 3x3 with column stride 1 or 2 and no dilation, for AVX2 translation units only.
//
// Image columns are widened once and serve every output pixel they touch. A column of 16 channels is four vectors: rows
// 0 and 1 interleaved as s16 pairs, and row 2 with a partner that meets a zero weight. The sums of a whole output row
// are kept in scratch and finished together.
#pragma once

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_dims.h"

namespace aoq::cpu {
namespace {

// Three image rows of one output row; a row outside the image is `padding` with step 0.
struct RowTriple {
  const std::uint8_t* rows[3];
  std::int64_t steps[3];
  const std::uint8_t* padding;
  std::int64_t first;  // image column of the first kernel column of output pixel 0, may be negative
  std::int64_t width;
};

struct Column {
  __m256i upper_low, upper_high;  // rows 0 and 1 of channels 0-7 and 8-15
  __m256i lower_low, lower_high;  // row 2
};

template <bool kSigned>
inline Column widen_column(const RowTriple& x, std::int64_t index, std::int64_t channel) {
  std::int64_t ix = x.first + index;
  __m128i bytes[3];
  if (ix >= 0 && ix < x.width) {
    for (int r = 0; r < 3; ++r) bytes[r] = load_bytes(x.rows[r] + ix * x.steps[r] + channel);
  } else {
    for (int r = 0; r < 3; ++r) bytes[r] = load_bytes(x.padding + channel);
  }
  Column c;
  c.upper_low = widen_to_s16<kSigned>(_mm_unpacklo_epi8(bytes[0], bytes[1]));
  c.upper_high = widen_to_s16<kSigned>(_mm_unpackhi_epi8(bytes[0], bytes[1]));
  c.lower_low = widen_to_s32(bytes[2], kSigned);
  c.lower_high = widen_to_s32(_mm_srli_si128(bytes[2], 8), kSigned);
  return c;
}

struct Sums {
  __m256i low, high;
};

// Kernel column `kw`: its weights are four vectors in the order of Column.
inline Sums add_column(Sums sums, const Column& c, const __m256i* weights, int kw) {
  const __m256i* w = weights + 4 * kw;
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(c.upper_low, _mm256_load_si256(w)));
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(c.upper_high, _mm256_load_si256(w + 1)));
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(c.lower_low, _mm256_load_si256(w + 2)));
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(c.lower_high, _mm256_load_si256(w + 3)));
  return sums;
}

inline void store_sums(std::int32_t* acc, Sums sums) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(acc), sums.low);
  _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 8), sums.high);
}

// acc[pixel][16] of an output row, channels `channel` to channel + 15.
template <bool kSigned>
__attribute__((noinline)) void convolve_3x3_stride_1(const RowTriple& x, std::int64_t channel, const __m256i* weights,
                                                     Sums initial, std::int64_t pixels, std::int32_t* acc) {
  Column c = widen_column<kSigned>(x, 0, channel);
  Sums second = add_column(initial, c, weights, 0);
  c = widen_column<kSigned>(x, 1, channel);
  Sums first = add_column(second, c, weights, 1);
  second = add_column(initial, c, weights, 0);
  for (std::int64_t p = 0; p < pixels; ++p) {
    c = widen_column<kSigned>(x, p + 2, channel);
    store_sums(acc + 16 * p, add_column(first, c, weights, 2));
    first = add_column(second, c, weights, 1);
    second = add_column(initial, c, weights, 0);
  }
}

template <bool kSigned>
__attribute__((noinline)) void convolve_3x3_stride_2(const RowTriple& x, std::int64_t channel, const __m256i* weights,
                                                     Sums initial, std::int64_t pixels, std::int32_t* acc) {
  Sums sums = add_column(initial, widen_column<kSigned>(x, 0, channel), weights, 0);
  for (std::int64_t p = 0; p < pixels; ++p) {
    sums = add_column(sums, widen_column<kSigned>(x, 2 * p + 1, channel), weights, 1);
    Column c = widen_column<kSigned>(x, 2 * p + 2, channel);
    store_sums(acc + 16 * p, add_column(sums, c, weights, 2));
    sums = add_column(initial, c, weights, 0);
  }
}

}  // namespace
}  // namespace aoq::cpu
