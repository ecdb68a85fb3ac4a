// The scratch of attention in int8 with VNNI. In an unnamed namespace for the reason in simd_avx2.h: both the plan and
// the AVX-512 translation unit lay it out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/attention.h"

namespace aoq::cpu {
namespace {

// Rows that go through the scores, the softmax and the second product together.
constexpr std::int64_t kVnniRows = 6;
// Queries that become codes before their scores are made: whole tiles of rows, and whole sixteens.
constexpr std::int64_t kVnniQueries = 96;

// One worker's. Columns and width are padded to 16 and depth to 4, with zeros. Without memory it only counts the bytes.
struct VnniScratch {
  std::int64_t columns, depth, width;  // padded
  std::int64_t bytes = 0;
  std::byte* keys;           // [columns / 16][depth / 4][16][4]
  std::int32_t* key_starts;  // [columns]
  float* key_scales;         // [columns]
  std::byte* values;         // s16 [width / 16][columns / 2][16][2]
  float* value_scales;       // [width]
  std::uint8_t* query;       // [96][depth]
  float* factors;            // [96], of the queries
  float* scores;             // [6][columns]
  std::int16_t* weights;     // [6][columns]
  float* mean;               // [depth up to 16], of k

  VnniScratch(const AttentionDims& d, std::byte* at)
      : columns(up(d.columns, 16)), depth(up(d.depth, 4)), width(up(d.width, 16)) {
    keys = take<std::byte>(at, columns * depth);
    key_starts = take<std::int32_t>(at, columns);
    key_scales = take<float>(at, columns);
    values = take<std::byte>(at, 2 * columns * width);
    value_scales = take<float>(at, width);
    query = take<std::uint8_t>(at, kVnniQueries * depth);
    factors = take<float>(at, kVnniQueries);
    scores = take<float>(at, kVnniRows * columns);
    weights = take<std::int16_t>(at, kVnniRows * columns);
    mean = take<float>(at, up(depth, 16));
  }

 private:
  static std::int64_t up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }
  template <typename T>
  T* take(std::byte* at, std::int64_t count) {
    const std::int64_t begin = bytes;
    bytes += up(count * static_cast<std::int64_t>(sizeof(T)), 64);
    return at == nullptr ? nullptr : reinterpret_cast<T*>(at + begin);
  }
};

}  // namespace
}  // namespace aoq::cpu
