// Where the columns lie that one output row of an f32 depthwise convolution reads. For the translation units of vector
// instructions only.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

// Pointers to every column that an output row reads, kernel row after kernel row.
void find_columns(const ConvDims& d, const float* image, const float* zeros, std::int64_t oy, const float** columns) {
  std::int64_t count = depthwise_columns(d);
  std::int64_t begin = min_of(max_of(d.pad_left, 0), count);
  std::int64_t end = max_of(min_of(d.pad_left + d.in_w, count), begin);
  for (std::int64_t i = 0; i < d.kernel_h; ++i, columns += count) {
    std::int64_t iy = oy * d.stride_h - d.pad_top + i * d.dilation_h;
    bool inside = iy >= 0 && iy < d.in_h;
    const float* row = image + (inside ? iy : 0) * d.in_w * d.in_c;
    std::int64_t pitch = inside ? d.in_c : 0;
    if (!inside) row = zeros;
    for (std::int64_t c = 0; c < begin; ++c) columns[c] = zeros;
    for (std::int64_t c = begin; c < end; ++c) columns[c] = row + (c - d.pad_left) * pitch;
    for (std::int64_t c = end; c < count; ++c) columns[c] = zeros;
  }
}

}  // namespace
}  // namespace aoq::cpu
