// Widening im2col for the int8 convolution, for AVX2 translation units only: output pixel r becomes a row of k values
// x - zero_point as s16, zeros where the kernel is outside the image.
//
// Runs are written as whole vectors in ascending order: what a run writes too much, the next run or row overwrites, and
// the scratch has slack behind the last row. Reads stay inside the tensor.
#pragma once

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_s8.h"

namespace aoq::cpu {
namespace {

struct ByteSource {
  const std::uint8_t* data;
  const std::uint8_t* end;
  std::int32_t zero_point;
};

template <bool kSigned>
inline std::int16_t* widen_run(std::int16_t* out, const ByteSource& x, std::int64_t at, std::int64_t n) {
  const std::uint8_t* in = x.data + at;
  __m256i zero_point = _mm256_set1_epi16(static_cast<short>(x.zero_point));
  std::int64_t i = 0;
  for (; i < n && x.end - (in + i) >= 16; i += 16) {
    __m256i v = _mm256_sub_epi16(widen_to_s16<kSigned>(load_bytes(in + i)), zero_point);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), v);
  }
  for (; i < n; ++i) {
    std::int32_t value = kSigned ? static_cast<std::int8_t>(in[i]) : in[i];
    out[i] = static_cast<std::int16_t>(value - x.zero_point);
  }
  return out + n;
}

inline std::int16_t* zero_run(std::int16_t* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_setzero_si256());
  }
  return out + n;
}

// One kernel row: taps of one image row, which are one contiguous run when they are not dilated and not grouped.
template <bool kSigned>
inline std::int16_t* widen_kernel_row(const ConvDims& d, const ByteSource& x, std::int64_t row_start, std::int64_t ix,
                                      std::int16_t* out) {
  std::int64_t group_in = d.in_c / d.groups;
  if (d.dilation_w == 1 && d.groups == 1) {
    std::int64_t before = min_of(max_of(-ix, 0), d.kernel_w);
    std::int64_t inside = max_of(min_of(d.in_w - ix, d.kernel_w) - before, 0);
    out = zero_run(out, before * group_in);
    out = widen_run<kSigned>(out, x, row_start + (ix + before) * d.in_c, inside * group_in);
    return zero_run(out, (d.kernel_w - before - inside) * group_in);
  }
  for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
    bool inside = ix >= 0 && ix < d.in_w;
    out = inside ? widen_run<kSigned>(out, x, row_start + ix * d.in_c, group_in) : zero_run(out, group_in);
  }
  return out;
}

inline void next_pixel(const ConvDims& d, std::int64_t* ox, std::int64_t* oy, std::int64_t* image) {
  if (++*ox < d.out_w) return;
  *ox = 0;
  if (++*oy < d.out_h) return;
  *oy = 0;
  ++*image;
}

// All kernel rows of a pixel whose taps are inside the image and neighbours; false if one of that does not hold or the
// last whole vector would read behind the tensor.
template <bool kSigned>
inline bool widen_inner_pixel(const ConvDims& d, const ByteSource& x, std::int64_t at, std::int16_t* out) {
  std::int64_t run = d.kernel_w * d.in_c;
  std::int64_t row_bytes = d.dilation_h * d.in_w * d.in_c;
  const std::uint8_t* in = x.data + at;
  if (x.end - in < (d.kernel_h - 1) * row_bytes + (run + 15) / 16 * 16) return false;
  __m256i zero_point = _mm256_set1_epi16(static_cast<short>(x.zero_point));
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, in += row_bytes, out += run) {
    for (std::int64_t i = 0; i < run; i += 16) {
      __m256i v = _mm256_sub_epi16(widen_to_s16<kSigned>(load_bytes(in + i)), zero_point);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), v);
    }
  }
  return true;
}

template <bool kSigned>
void widen_rows(const ConvS8Plan& plan, const ByteSource& x, std::int64_t group, std::int64_t row_begin,
                std::int64_t row_end, std::int16_t* out) {
  const ConvDims& d = plan.dims;
  std::int64_t pitch = (plan.k + 1) / 2 * 2;
  if (plan.x_is_matrix && d.groups == 1 && pitch == plan.k) {
    widen_run<kSigned>(out, x, row_begin * plan.k, (row_end - row_begin) * plan.k);
    return;
  }
  bool has_runs = d.dilation_w == 1 && d.groups == 1;
  std::int64_t group_start = group * (d.in_c / d.groups);
  std::int64_t ox = row_begin % d.out_w;
  std::int64_t oy = row_begin / d.out_w % d.out_h;
  std::int64_t image = row_begin / d.out_w / d.out_h;
  for (std::int64_t row = row_begin; row < row_end; ++row, out += pitch) {
    std::int16_t* to = out;
    std::int64_t iy = oy * d.stride_h - d.pad_top;
    std::int64_t ix = ox * d.stride_w - d.pad_left;
    bool inside = iy >= 0 && iy + (d.kernel_h - 1) * d.dilation_h < d.in_h && ix >= 0 && ix + d.kernel_w <= d.in_w;
    if (has_runs && inside && widen_inner_pixel<kSigned>(d, x, ((image * d.in_h + iy) * d.in_w + ix) * d.in_c, to)) {
      if (pitch != plan.k) out[plan.k] = 0;
      next_pixel(d, &ox, &oy, &image);
      continue;
    }
    for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
      if (iy < 0 || iy >= d.in_h) {
        to = zero_run(to, d.kernel_w * (d.in_c / d.groups));
        continue;
      }
      std::int64_t row_start = (image * d.in_h + iy) * d.in_w * d.in_c + group_start;
      to = widen_kernel_row<kSigned>(d, x, row_start, ix, to);
    }
    // The partner of an odd K meets a zero weight, but must not be uninitialized.
    if (pitch != plan.k) *to = 0;
    next_pixel(d, &ox, &oy, &image);
  }
}

}  // namespace
}  // namespace aoq::cpu
