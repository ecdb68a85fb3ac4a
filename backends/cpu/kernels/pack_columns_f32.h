// A panel of 16 columns of a run-time matrix as layout F32_N16. For the translation units of vector instructions only.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

// b has one contiguous row of values per k.
inline void pack_columns(const float* b, std::int64_t pitch, std::int64_t k, std::int64_t columns, float* out) {
  for (std::int64_t i = 0; i < k; ++i) {
    store(out + 16 * i, load_first(b + i * pitch, columns));
    store(out + 16 * i + 8, columns > 8 ? load_first(b + i * pitch + 8, columns - 8) : F32x8(0.0f));
  }
}

// Eight rows of eight floats, transposed in place.
inline void transpose_8x8(__m256* r) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// b has one contiguous row of k values per column. Writes up to the next multiple of 8 of k.
inline void pack_rows(const float* b, std::int64_t pitch, std::int64_t k, std::int64_t columns, float* out) {
  for (std::int64_t half = 0; half < 2; ++half) {
    for (std::int64_t i = 0; i < k; i += 8) {
      __m256 r[8];
      for (std::int64_t j = 0; j < 8; ++j) {
        bool exists = 8 * half + j < columns;
        r[j] = exists ? load_first(b + (8 * half + j) * pitch + i, k - i).v : _mm256_setzero_ps();
      }
      transpose_8x8(r);
      for (std::int64_t j = 0; j < 8; ++j) _mm256_store_ps(out + 16 * (i + j) + 8 * half, r[j]);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
