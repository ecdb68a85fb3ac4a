// The rows of an int8 convolution as u8, for AVX2 translation units only: output pixel r becomes a row of k codes,
// signed ones plus 128, the zero point where the kernel is outside the image. Reads and writes stay inside image and
// row.
#pragma once

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_dims.h"

namespace aoq::cpu {
namespace {

struct GatherU8 {
  const std::uint8_t* x;
  const std::uint8_t* end;
  __m256i flip;  // turns signed codes into unsigned ones
  __m256i fill;  // the code of zero, as u8
};

inline GatherU8 gather_of(const ConvDims& d, const void* x, bool is_signed, std::int32_t zero_point) {
  const std::int32_t shift = is_signed ? 128 : 0;
  const auto* bytes = static_cast<const std::uint8_t*>(x);
  return {bytes, bytes + d.batch * d.in_h * d.in_w * d.in_c, _mm256_set1_epi8(static_cast<char>(shift)),
          _mm256_set1_epi8(static_cast<char>(zero_point + shift))};
}

// n bytes in vectors of 32, 16, 8 or 4, of which the last two overlap.
template <typename Write32, typename Write16, typename Write8, typename Write4, typename Write1>
inline void in_pieces(std::int64_t n, Write32 write32, Write16 write16, Write8 write8, Write4 write4, Write1 write1) {
  if (n >= 32) {
    for (std::int64_t i = 0; i + 32 <= n; i += 32) write32(i);
    if (n % 32 != 0) write32(n - 32);
  } else if (n >= 16) {
    write16(0);
    write16(n - 16);
  } else if (n >= 8) {
    write8(0);
    write8(n - 8);
  } else if (n >= 4) {
    write4(0);
    write4(n - 4);
  } else {
    for (std::int64_t i = 0; i < n; ++i) write1(i);
  }
}

inline std::uint8_t* copy_run(const GatherU8& g, std::uint8_t* out, std::int64_t at, std::int64_t n) {
  const std::uint8_t* in = g.x + at;
  const __m128i flip = _mm256_castsi256_si128(g.flip);
  in_pieces(
      n,
      [&](std::int64_t i) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_xor_si256(v, g.flip));
      },
      [&](std::int64_t i) { store_bytes(out + i, _mm_xor_si128(load_bytes(in + i), flip)); },
      [&](std::int64_t i) {
        const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + i));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_xor_si128(v, flip));
      },
      [&](std::int64_t i) {
        *reinterpret_cast<AnyInt32*>(out + i) = *reinterpret_cast<const AnyInt32*>(in + i) ^ _mm_cvtsi128_si32(flip);
      },
      [&](std::int64_t i) { out[i] = static_cast<std::uint8_t>(in[i] ^ _mm_cvtsi128_si32(flip)); });
  return out + n;
}

inline std::uint8_t* fill_run(const GatherU8& g, std::uint8_t* out, std::int64_t n) {
  const __m128i fill = _mm256_castsi256_si128(g.fill);
  in_pieces(
      n, [&](std::int64_t i) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), g.fill); },
      [&](std::int64_t i) { store_bytes(out + i, fill); },
      [&](std::int64_t i) { _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), fill); },
      [&](std::int64_t i) { *reinterpret_cast<AnyInt32*>(out + i) = _mm_cvtsi128_si32(fill); },
      [&](std::int64_t i) { out[i] = static_cast<std::uint8_t>(_mm_cvtsi128_si32(fill)); });
  return out + n;
}

// Taps of one kernel row: one contiguous run where they are neighbours.
inline std::uint8_t* gather_kernel_row(const ConvDims& d, const GatherU8& g, std::int64_t row_start, std::int64_t ix,
                                       std::uint8_t* out) {
  const std::int64_t group_in = d.in_c / d.groups;
  if (d.dilation_w == 1 && d.groups == 1) {
    const std::int64_t before = min_of(max_of(-ix, 0), d.kernel_w);
    const std::int64_t inside = max_of(min_of(d.in_w - ix, d.kernel_w) - before, 0);
    out = fill_run(g, out, before * group_in);
    out = copy_run(g, out, row_start + (ix + before) * d.in_c, inside * group_in);
    return fill_run(g, out, (d.kernel_w - before - inside) * group_in);
  }
  for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
    const bool inside = ix >= 0 && ix < d.in_w;
    out = inside ? copy_run(g, out, row_start + ix * d.in_c, group_in) : fill_run(g, out, group_in);
  }
  return out;
}

// Neighbouring pixels whose taps are inside the image and neighbours.
struct InnerRun {
  std::int64_t at;     // where the first tap of the first pixel lies in the tensor
  std::int64_t count;  // pixels
  std::int64_t pitch;  // bytes from pixel to pixel in out
};

// All kernel rows of the pixels of a run in whole vectors: what one writes too much the next one overwrites. Answers
// how many are done: not those whose last vector would read behind the tensor. 4 bytes behind k become 0.
template <bool kOneVector>
inline std::int64_t gather_inner_run(const ConvDims& d, const GatherU8& g, const InnerRun& pixels, std::uint8_t* out) {
  const std::int64_t rows = d.kernel_h, run = d.kernel_w * d.in_c, step = d.stride_w * d.in_c;
  const std::int64_t row_bytes = d.dilation_h * d.in_w * d.in_c, k = rows * run;
  const std::int64_t spare = g.end - (g.x + pixels.at) - (rows - 1) * row_bytes - (run + 31) / 32 * 32;
  if (spare < 0) return 0;
  const std::int64_t count = min_of(pixels.count, spare / step + 1), pitch = pixels.pitch;
  const std::uint8_t* in = g.x + pixels.at;
  const __m256i flip = g.flip;
  for (std::int64_t p = 0; p < count; ++p, in += step, out += pitch) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < (kOneVector ? 1 : run); i += 32) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + r * row_bytes + i));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * run + i), _mm256_xor_si256(v, flip));
      }
    }
    *reinterpret_cast<AnyInt32*>(out + k) = 0;
  }
  return count;
}

inline std::int64_t gather_inner(const ConvDims& d, const GatherU8& g, const InnerRun& pixels, std::uint8_t* out) {
  if (d.kernel_w * d.in_c <= 32) return gather_inner_run<true>(d, g, pixels, out);
  return gather_inner_run<false>(d, g, pixels, out);
}

// An output pixel.
struct OutPixel {
  std::int64_t image, oy, ox;
};

// Any pixel; up to 3 bytes behind k become 0.
inline void gather_pixel(const ConvDims& d, const GatherU8& g, std::int64_t group, const OutPixel& pixel,
                         std::uint8_t* out) {
  const std::int64_t group_in = d.in_c / d.groups, k = d.kernel_h * d.kernel_w * group_in;
  const std::int64_t ix = pixel.ox * d.stride_w - d.pad_left;
  std::int64_t iy = pixel.oy * d.stride_h - d.pad_top;
  std::uint8_t* to = out;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    if (iy < 0 || iy >= d.in_h) {
      to = fill_run(g, to, d.kernel_w * group_in);
    } else {
      to = gather_kernel_row(d, g, (pixel.image * d.in_h + iy) * d.in_w * d.in_c + group * group_in, ix, to);
    }
  }
  for (std::int64_t i = k; i < (k + 3) / 4 * 4; ++i) out[i] = 0;
}

// At most `most` pixels of one output row from a pixel on, `pitch` bytes apart, as many as lie inside the image and can
// be read in whole vectors; answers how many.
inline std::int64_t gather_inside(const ConvDims& d, const GatherU8& g, const OutPixel& first, std::int64_t most,
                                  std::uint8_t* out, std::int64_t pitch) {
  const std::int64_t iy = first.oy * d.stride_h - d.pad_top, ix = first.ox * d.stride_w - d.pad_left;
  const bool is_inside = d.dilation_w == 1 && d.groups == 1 && iy >= 0 && ix >= 0 && ix + d.kernel_w <= d.in_w &&
                         iy + (d.kernel_h - 1) * d.dilation_h < d.in_h;
  if (!is_inside) return 0;
  const std::int64_t inside = min_of((d.in_w - d.kernel_w - ix) / d.stride_w + 1, d.out_w - first.ox);
  const std::int64_t at = ((first.image * d.in_h + iy) * d.in_w + ix) * d.in_c;
  return gather_inner(d, g, {.at = at, .count = min_of(inside, most), .pitch = pitch}, out);
}

// Rows [row_begin, row_end) of one group, `pitch` bytes apart; up to 3 bytes behind k become 0. Up to kGatherSlack
// bytes behind the last row are written.
inline constexpr std::int64_t kGatherSlack = 32;
inline void gather_rows(const ConvDims& d, const GatherU8& g, std::int64_t group, std::int64_t row_begin,
                        std::int64_t row_end, std::uint8_t* out, std::int64_t pitch) {
  OutPixel pixel = {row_begin / d.out_w / d.out_h, row_begin / d.out_w % d.out_h, row_begin % d.out_w};
  for (std::int64_t row = row_begin; row < row_end;) {
    std::int64_t done = gather_inside(d, g, pixel, row_end - row, out, pitch);
    if (done == 0) {
      gather_pixel(d, g, group, pixel, out);
      done = 1;
    }
    row += done;
    out += done * pitch;
    pixel.ox += done;
    if (pixel.ox < d.out_w) continue;
    pixel.ox = 0;
    if (++pixel.oy < d.out_h) continue;
    pixel.oy = 0;
    ++pixel.image;
  }
}

}  // namespace
}  // namespace aoq::cpu
