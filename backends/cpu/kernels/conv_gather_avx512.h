// Gathers the rows of conv_panels.h on AVX-512: for every output pixel the codes that it meets, as u8, kernel row by
// kernel row. In an unnamed namespace, as the translation units of one instruction set include it.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_panels.h"
#include "backends/cpu/kernels/simd_avx512.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))

// Codes of x as u8, gathered row by row.
struct Gather {
  const std::uint8_t *x, *x_end;
  __m512i flip;  // turns signed codes into unsigned ones
  __m512i fill;  // the code of zero
};

// Whole vectors are written: what a run writes too much, the next run or row overwrites, and the block has slack.
AOQ_INLINE std::uint8_t* copy_run(const Gather& g, std::uint8_t* out, std::int64_t at, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_loadu_si512(g.x + at + i), g.flip));
  }
  if (i < n) {
    const __mmask64 mask = ~std::uint64_t{0} >> (64 - (n - i));
    _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, g.x + at + i), g.flip));
  }
  return out + n;
}

AOQ_INLINE std::uint8_t* fill_run(const Gather& g, std::uint8_t* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 64) _mm512_storeu_si512(out + i, g.fill);
  return out + n;
}

// Taps of one kernel row: one contiguous run where they are neighbours.
std::uint8_t* gather_kernel_row(const ConvDims& d, const Gather& g, std::int64_t row_start, std::int64_t ix,
                                std::uint8_t* out) {
  const std::int64_t group_in = d.in_c / d.groups;
  if (d.dilation_w == 1 && d.groups == 1) {
    const std::int64_t before = min_of(max_of(-ix, 0), d.kernel_w);
    const std::int64_t inside = max_of(min_of(d.in_w - ix, d.kernel_w) - before, 0);
    if (before > 0) out = fill_run(g, out, before * group_in);
    out = copy_run(g, out, row_start + (ix + before) * d.in_c, inside * group_in);
    const std::int64_t after = d.kernel_w - before - inside;
    return after > 0 ? fill_run(g, out, after * group_in) : out;
  }
  for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
    const bool inside = ix >= 0 && ix < d.in_w;
    out = inside ? copy_run(g, out, row_start + ix * d.in_c, group_in) : fill_run(g, out, group_in);
  }
  return out;
}

// Pixels next to each other whose taps are inside the image, and neighbours in every kernel row.
struct InnerPixels {
  const std::uint8_t* in;              // the first tap of the first pixel
  std::int64_t pixels, step;           // bytes from pixel to pixel
  std::int64_t kernel_rows, row_step;  // bytes from one to the next
  std::int64_t run;                    // bytes of a kernel row
  bool has_tail;                       // of a last, partial step
  std::uint8_t* out;
  std::int64_t pitch;
};

// Whether the runs of a pixel, and the tail, fit into one vector.
AOQ_INLINE bool are_one_vector(std::int64_t kernel_rows, std::int64_t run) {
  return kernel_rows == 3 && 3 * run <= 29;
}

// Three short runs are loaded to their places of one vector, whose rest is the tail.
struct ThreeRunPlaces {
  __mmask32 first, second, third;
  __m256i flip;
};

AOQ_INLINE ThreeRunPlaces places_of(std::int64_t run, const Gather& g) {
  const __mmask32 first = (std::uint32_t{1} << run) - 1;
  return {first, first << run, first << 2 * run, _mm512_castsi512_si256(g.flip)};
}

// Gathers the next `pixels` of `p`, and moves it behind them.
AOQ_INLINE void gather_next(InnerPixels& p, const ThreeRunPlaces& places, std::int64_t pixels) {
  const std::int64_t step = p.step, pitch = p.pitch, next = p.row_step - p.run;  // to the next run, at its place
  const std::uint8_t* in = p.in;
  std::uint8_t* out = p.out;
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < pixels; ++i) {
    __m256i v = _mm256_maskz_loadu_epi8(places.first, in);
    v = _mm256_mask_loadu_epi8(v, places.second, in + next);
    v = _mm256_mask_loadu_epi8(v, places.third, in + 2 * next);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_xor_si256(v, places.flip));
    in += step;
    out += pitch;
  }
  p.in = in;
  p.out = out;
  p.pixels -= pixels;
}

void gather_three_runs(const InnerPixels& from, const Gather& g) {
  InnerPixels p = from;
  gather_next(p, places_of(p.run, g), p.pixels);
}

// The same for one pixel at the border: a run, or some of its columns, may be outside the image.
void gather_three_runs_at_border(const ConvDims& d, const Gather& g, std::int64_t image, std::int64_t iy,
                                 std::int64_t ix, std::uint8_t* out) {
  const std::int64_t run = d.kernel_w * d.in_c, before = min_of(max_of(-ix, 0), d.kernel_w);
  const std::int64_t inside = max_of(min_of(d.in_w - ix, d.kernel_w) - before, 0);
  const std::uint32_t columns = ((std::uint32_t{1} << (inside * d.in_c)) - 1) << (before * d.in_c);
  __m256i v = _mm512_castsi512_si256(g.fill);
#pragma GCC unroll 3
  for (std::int64_t r = 0; r < 3; ++r, iy += d.dilation_h) {
    const __mmask32 mask = iy >= 0 && iy < d.in_h ? columns << (r * run) : 0;
    // What is loaded is inside the image, but a vector may begin before it.
    const std::int64_t at = ((image * d.in_h + iy) * d.in_w + ix) * d.in_c - r * run;
    const auto address = reinterpret_cast<std::uintptr_t>(g.x) + static_cast<std::uintptr_t>(at);
    const __m256i codes = _mm256_maskz_loadu_epi8(mask, reinterpret_cast<const void*>(address));
    v = _mm256_mask_mov_epi8(v, mask, _mm256_xor_si256(codes, _mm512_castsi512_si256(g.flip)));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), v);
}

// Short runs are one vector each, of which the next run overwrites what is too much, and the last one is the tail.
void gather_runs_to_13(const InnerPixels& from, const Gather& g) {
  const InnerPixels p = from;
  const auto mask = static_cast<__mmask16>(0xffffu >> (16 - p.run));
  const __m128i flip = _mm512_castsi512_si128(g.flip);
  for (std::int64_t i = 0; i < p.pixels; ++i) {
    const std::uint8_t* in = p.in + i * p.step;
    std::uint8_t* out = p.out + i * p.pitch;
    for (std::int64_t row = 0; row < p.kernel_rows; ++row, in += p.row_step, out += p.run) {
      store_bytes(out, _mm_xor_si128(_mm_maskz_loadu_epi8(mask, in), flip));
    }
  }
}

// Masks are for runs so near the end of the image that a vector would reach beyond.
template <bool kIsMasked>
void gather_runs_to_29(const InnerPixels& from, const Gather& g) {
  const InnerPixels p = from;
  const __mmask32 mask = ~std::uint32_t{0} >> (32 - p.run);
  const __m256i flip = _mm512_castsi512_si256(g.flip);
  for (std::int64_t i = 0; i < p.pixels; ++i) {
    const std::uint8_t* in = p.in + i * p.step;
    std::uint8_t* out = p.out + i * p.pitch;
    for (std::int64_t row = 0; row < p.kernel_rows; ++row, in += p.row_step, out += p.run) {
      __m256i v;
      if constexpr (kIsMasked) {
        v = _mm256_maskz_loadu_epi8(mask, in);
      } else {
        v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_xor_si256(v, flip));
    }
  }
}

void gather_long_runs(const InnerPixels& from, const Gather& g) {
  const InnerPixels p = from;
  const std::int64_t whole = (p.run - 1) / 64 * 64;
  const __mmask64 mask = ~std::uint64_t{0} >> (64 - (p.run - whole));
  const __m512i flip = g.flip;
  for (std::int64_t pixel = 0; pixel < p.pixels; ++pixel) {
    const std::uint8_t* in = p.in + pixel * p.step;
    std::uint8_t* out = p.out + pixel * p.pitch;
    for (std::int64_t row = 0; row < p.kernel_rows; ++row, in += p.row_step, out += p.run) {
      for (std::int64_t i = 0; i < whole; i += 64) {
        _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_loadu_si512(in + i), flip));
      }
      _mm512_storeu_si512(out + whole, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, in + whole), flip));
    }
    if (p.has_tail) *reinterpret_cast<AnyInt32*>(out) = 0;
  }
}

void gather_inner_pixels(const InnerPixels& p, const Gather& g) {
  if (p.run > 29) return gather_long_runs(p, g);
  if (are_one_vector(p.kernel_rows, p.run)) return gather_three_runs(p, g);
  if (p.run <= 13) return gather_runs_to_13(p, g);
  const std::int64_t last = (p.pixels - 1) * p.step + (p.kernel_rows - 1) * p.row_step;  // run, from the first one
  if (g.x_end - p.in < last + 32) return gather_runs_to_29<true>(p, g);
  gather_runs_to_29<false>(p, g);
}

// The partners of a last, partial step meet zero weights, but must not be uninitialized.
AOQ_INLINE void fill_last_step(const ConvPanelsPlan& plan, std::uint8_t* row) {
  if (plan.k % 4 != 0) *reinterpret_cast<AnyInt32*>(row + plan.k) = 0;
}

// One pixel, wherever its taps are.
void gather_pixel(const ConvPanelsPlan& plan, const Gather& g, std::int64_t group, std::int64_t image, std::int64_t iy,
                  std::int64_t ix, std::uint8_t* out) {
  const ConvDims& d = plan.dims;
  const std::int64_t group_in = d.in_c / d.groups;
  std::uint8_t* to = out;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    if (iy < 0 || iy >= d.in_h) {
      to = fill_run(g, to, d.kernel_w * group_in);
    } else {
      to = gather_kernel_row(d, g, (image * d.in_h + iy) * d.in_w * d.in_c + group * group_in, ix, to);
    }
  }
  fill_last_step(plan, out);
}

// Leaves inner pixels to `gather_inner`, which gets them in order, when all before them are gathered.
template <typename GatherInner>
void gather_rows(const ConvPanelsPlan& plan, const Gather& g, std::int64_t group, std::int64_t row_begin,
                 std::int64_t row_end, std::uint8_t* out, const GatherInner& gather_inner) {
  const ConvDims& d = plan.dims;
  const bool has_runs = d.dilation_w == 1 && d.groups == 1;
  std::int64_t ox = row_begin % d.out_w, oy = row_begin / d.out_w % d.out_h, image = row_begin / d.out_w / d.out_h;
  for (std::int64_t row = row_begin; row < row_end;) {
    const std::int64_t iy = oy * d.stride_h - d.pad_top, ix = ox * d.stride_w - d.pad_left;
    const bool has_rows = iy >= 0 && iy + (d.kernel_h - 1) * d.dilation_h < d.in_h;
    const std::int64_t last_ix = d.in_w - d.kernel_w;  // of the first tap, where all are inside
    std::int64_t pixels = 1;
    if (has_runs && has_rows && ix >= 0 && ix <= last_ix) {
      pixels = min_of(min_of((last_ix - ix) / d.stride_w + 1, d.out_w - ox), row_end - row);
      gather_inner(InnerPixels{.in = g.x + ((image * d.in_h + iy) * d.in_w + ix) * d.in_c,
                               .pixels = pixels,
                               .step = d.stride_w * d.in_c,
                               .kernel_rows = d.kernel_h,
                               .row_step = d.dilation_h * d.in_w * d.in_c,
                               .run = d.kernel_w * d.in_c,
                               .has_tail = plan.k % 4 != 0,
                               .out = out,
                               .pitch = plan.pitch});
    } else if (has_runs && are_one_vector(d.kernel_h, d.kernel_w * d.in_c)) {
      gather_three_runs_at_border(d, g, image, iy, ix, out);
    } else {
      gather_pixel(plan, g, group, image, iy, ix, out);
    }
    row += pixels;
    out += pixels * plan.pitch;
    ox += pixels;
    if (ox < d.out_w) continue;
    ox = 0;
    if (++oy < d.out_h) continue;
    oy = 0;
    ++image;
  }
}

#undef AOQ_INLINE

}  // namespace
}  // namespace aoq::cpu
