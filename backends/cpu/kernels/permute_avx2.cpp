// Transpositions: three planes of bytes to pixels of three channels, which is how images enter networks that work
// channels-last, and matrices of 4-byte elements.
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"

namespace aoq::cpu {
namespace {

// Byte i of output vector `part` is channel (16 * part + i) % 3 of pixel (16 * part + i) / 3.
struct Pattern {
  alignas(16) std::int8_t from[3][3][16];  // [part][channel]: the pixel, or -1 where another channel is
};

constexpr Pattern make_pattern() {
  Pattern p = {};
  for (int part = 0; part < 3; ++part) {
    for (int i = 0; i < 16; ++i) {
      const int at = 16 * part + i;
      for (int channel = 0; channel < 3; ++channel) {
        p.from[part][channel][i] = static_cast<std::int8_t>(at % 3 == channel ? at / 3 : -1);
      }
    }
  }
  return p;
}
constexpr Pattern kPattern = make_pattern();

// The two halves' low (or high) elements in turn, then pairs, then halves: the three rounds of an 8x8 transposition.
inline void transpose_8x8(const float* x, std::int64_t column_stride, float* out, std::int64_t pitch) {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(x + i * column_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * pitch, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * pitch, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
  }
}

}  // namespace

// Moves the bits of any 4-byte elements. Eight columns at a time, so that the rows written to stay in the first-level
// cache while their lines fill.
void transpose_words_avx2(const void* x, std::int64_t column_stride, std::int64_t rows, std::int64_t columns, void* out,
                          std::int64_t pitch) {
  const auto* in = static_cast<const float*>(x);
  auto* to = static_cast<float*>(out);
  constexpr std::int64_t kRows = 64;
  for (std::int64_t top = 0; top < rows; top += kRows) {
    const std::int64_t bottom = min_of(top + kRows, rows);
    std::int64_t column = 0;
    for (; column + 8 <= columns; column += 8) {
      std::int64_t row = top;
      for (; row + 8 <= bottom; row += 8) {
        transpose_8x8(in + column * column_stride + row, column_stride, to + row * pitch + column, pitch);
      }
      for (; row < bottom; ++row) {
        for (int i = 0; i < 8; ++i) to[row * pitch + column + i] = in[(column + i) * column_stride + row];
      }
    }
    for (; column < columns; ++column) {
      for (std::int64_t row = top; row < bottom; ++row) to[row * pitch + column] = in[column * column_stride + row];
    }
  }
}

void interleave_three_avx2(const std::uint8_t* x, std::int64_t plane, std::int64_t pixels, std::uint8_t* out) {
  std::int64_t p = 0;
  for (; p + 16 <= pixels; p += 16, out += 48) {
    const __m128i channel[3] = {load_bytes(x + p), load_bytes(x + plane + p), load_bytes(x + 2 * plane + p)};
#pragma GCC unroll 3
    for (int part = 0; part < 3; ++part) {
      __m128i sum = _mm_setzero_si128();
#pragma GCC unroll 3
      for (int c = 0; c < 3; ++c) {
        sum = _mm_or_si128(sum, _mm_shuffle_epi8(channel[c], load_bytes(kPattern.from[part][c])));
      }
      store_bytes(out + 16 * part, sum);
    }
  }
  for (; p < pixels; ++p) {
    for (int c = 0; c < 3; ++c) *out++ = x[c * plane + p];
  }
}

}  // namespace aoq::cpu
