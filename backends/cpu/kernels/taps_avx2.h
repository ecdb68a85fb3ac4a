// Pointers to the kernel taps of output pixels, for depthwise convolution in AVX2 translation units.
//
// Padding taps point to a row of values that the caller chose. Inside the image the next pixel's pointers are the last
// one's plus a constant.
#pragma once

#include "backends/cpu/kernels/conv_dims.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

template <typename T>
struct TapRow {
  const ConvDims* dims;
  const T* image;    // first element of this batch entry
  const T* padding;  // in_c values
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

template <typename T>
void find_taps(const TapRow<T>& row, std::int64_t ox, const T** taps) {
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

// Pointers of `pixels` neighbours from ox on, `pitch` apart in `taps`.
template <typename T>
void find_taps_of_pixels(const TapRow<T>& row, std::int64_t ox, std::int64_t pixels, std::int64_t pitch,
                         const T** taps) {
  const ConvDims& d = *row.dims;
  std::int64_t count = d.kernel_h * d.kernel_w;
  bool inside = row_is_inside(d, row.oy);
  find_taps(row, ox, taps);
  for (std::int64_t p = 1; p < pixels; ++p, taps += pitch) {
    if (inside && column_is_inside(d, ox + p - 1) && column_is_inside(d, ox + p)) {
      for (std::int64_t t = 0; t < count; ++t) taps[pitch + t] = taps[t] + d.stride_w * d.in_c;
    } else {
      find_taps(row, ox + p, taps + pitch);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
