// Pointers to the kernel taps of output pixels, for int8 depthwise convolution in AVX2 translation units.
//
// Padding taps point to a row of values that the caller chose. Inside the image the next pixel's pointers are the last
// one's plus a constant.
#pragma once

#include "backends/cpu/kernels/conv_dims.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

struct TapRow {
  const ConvDims* dims;
  const std::uint8_t* image;    // first element of this batch entry
  const std::uint8_t* padding;  // in_c values
  std::int64_t oy;
};

inline bool row_is_inside(const ConvDims& d, std::int64_t oy) {
  std::int64_t iy = oy * d.stride_h - d.pad_top;
  return iy >= 0 && iy + (d.kernel_h - 1) * d.dilation_h < d.in_h;
}

inline bool column_is_inside(const ConvDims& d, std::int64_t ox) {
  std::int64_t ix = ox * d.stride_w - d.pad_left;
  return ix >= 0 && ix + (d.kernel_w - 1) * d.dilation_w < d.in_w;
}

inline void find_taps(const TapRow& row, std::int64_t ox, const std::uint8_t** taps) {
  const ConvDims& d = *row.dims;
  std::int64_t iy = row.oy * d.stride_h - d.pad_top;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    std::int64_t ix = ox * d.stride_w - d.pad_left;
    bool row_inside = iy >= 0 && iy < d.in_h;
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
      bool inside = row_inside && ix >= 0 && ix < d.in_w;
      *taps++ = inside ? row.image + (iy * d.in_w + ix) * d.in_c : row.padding;
    }
  }
}

// to[t] = from[t] + step for t < count; writes up to 3 entries more.
inline void advance_taps(const std::uint8_t** to, const std::uint8_t* const* from, std::int64_t count,
                         std::int64_t step) {
  __m256i bytes = _mm256_set1_epi64x(step);
  for (std::int64_t t = 0; t < count; t += 4) {
    __m256i pointers = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + t));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + t), _mm256_add_epi64(pointers, bytes));
  }
}

// Pointers of `pixels` (at most `group`) neighbours from ox on, `pitch` apart in `taps`; the table has 4 entries of
// slack. Groups of a row must come in order: a full group's last pointers continue in the next group.
inline void find_taps_of_pixels(const TapRow& row, std::int64_t ox, std::int64_t pixels, std::int64_t group,
                                std::int64_t pitch, const std::uint8_t** taps) {
  const ConvDims& d = *row.dims;
  std::int64_t count = d.kernel_h * d.kernel_w;
  bool inside = row_is_inside(d, row.oy);
  const std::uint8_t** from = taps + (group - 1) * pitch;
  for (std::int64_t p = 0; p < pixels; ++p) {
    const std::uint8_t** to = taps + p * pitch;
    if (inside && ox + p > 0 && column_is_inside(d, ox + p - 1) && column_is_inside(d, ox + p)) {
      advance_taps(to, from, count, d.stride_w * d.in_c);
    } else {
      find_taps(row, ox + p, to);
    }
    from = to;
  }
}

}  // namespace
}  // namespace aoq::cpu
