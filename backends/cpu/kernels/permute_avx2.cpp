// Three planes of bytes to pixels of three channels: how images enter networks that work channels-last.
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

}  // namespace

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
