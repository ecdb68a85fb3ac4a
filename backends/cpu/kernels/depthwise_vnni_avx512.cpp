// The kernels of depthwise_vnni.h, 64 channels in four 512-bit vectors or up to 32 in four 256-bit ones.
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))

// The two widths with one set of names. Masks count channels.
struct Wide {
  using Ints = __m512i;
  using Mask = __mmask64;
  static AOQ_INLINE Ints load(const void* p) { return _mm512_load_si512(p); }
  static AOQ_INLINE Ints load(Mask m, const std::uint8_t* p) { return _mm512_maskz_loadu_epi8(m, p); }
  static AOQ_INLINE void store(std::uint8_t* p, Mask m, Ints v) { _mm512_mask_storeu_epi8(p, m, v); }
  static AOQ_INLINE Ints zero() { return _mm512_setzero_si512(); }
  static AOQ_INLINE Ints bytes(std::int32_t v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  static AOQ_INLINE Ints shorts(std::int32_t v) { return _mm512_set1_epi16(static_cast<short>(v)); }
  static AOQ_INLINE Ints flipped(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
  static AOQ_INLINE Ints low8(Ints a, Ints b) { return _mm512_unpacklo_epi8(a, b); }
  static AOQ_INLINE Ints high8(Ints a, Ints b) { return _mm512_unpackhi_epi8(a, b); }
  static AOQ_INLINE Ints low16(Ints a, Ints b) { return _mm512_unpacklo_epi16(a, b); }
  static AOQ_INLINE Ints high16(Ints a, Ints b) { return _mm512_unpackhi_epi16(a, b); }
  static AOQ_INLINE Ints dot(Ints sum, Ints x, Ints w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static AOQ_INLINE Ints times(Ints a, std::int32_t b) { return _mm512_mullo_epi32(a, _mm512_set1_epi32(b)); }
  using Floats = F32x16;
  static AOQ_INLINE Floats scaled(Ints sum, const float* bias, const float* multiplier) {
    return (Floats(_mm512_cvtepi32_ps(sum)) + Floats(_mm512_loadu_ps(bias))) * Floats(_mm512_loadu_ps(multiplier));
  }
  static AOQ_INLINE Ints rounded(Floats v, float hi) {
    return _mm512_cvtps_epi32(_mm512_min_ps(v.v, _mm512_set1_ps(hi)));
  }
  static AOQ_INLINE Ints packed16(Ints a, Ints b, Ints add) { return _mm512_adds_epi16(_mm512_packs_epi32(a, b), add); }
  static AOQ_INLINE Ints packed8(Ints a, Ints b, Ints least, bool is_signed) {
    return is_signed ? _mm512_max_epi8(_mm512_packs_epi16(a, b), least)
                     : _mm512_max_epu8(_mm512_packus_epi16(a, b), least);
  }
};

struct Narrow {
  using Ints = __m256i;
  using Mask = __mmask32;
  static constexpr int kChannels = 32;
  static AOQ_INLINE Ints load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
  static AOQ_INLINE Ints load(Mask m, const std::uint8_t* p) { return _mm256_maskz_loadu_epi8(m, p); }
  static AOQ_INLINE void store(std::uint8_t* p, Mask m, Ints v) { _mm256_mask_storeu_epi8(p, m, v); }
  static AOQ_INLINE Ints zero() { return _mm256_setzero_si256(); }
  static AOQ_INLINE Ints bytes(std::int32_t v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  static AOQ_INLINE Ints shorts(std::int32_t v) { return _mm256_set1_epi16(static_cast<short>(v)); }
  static AOQ_INLINE Ints flipped(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
  static AOQ_INLINE Ints low8(Ints a, Ints b) { return _mm256_unpacklo_epi8(a, b); }
  static AOQ_INLINE Ints high8(Ints a, Ints b) { return _mm256_unpackhi_epi8(a, b); }
  static AOQ_INLINE Ints low16(Ints a, Ints b) { return _mm256_unpacklo_epi16(a, b); }
  static AOQ_INLINE Ints high16(Ints a, Ints b) { return _mm256_unpackhi_epi16(a, b); }
  static AOQ_INLINE Ints dot(Ints sum, Ints x, Ints w) { return _mm256_dpbusd_epi32(sum, x, w); }
  static AOQ_INLINE Ints times(Ints a, std::int32_t b) { return _mm256_mullo_epi32(a, _mm256_set1_epi32(b)); }
  using Floats = F32x8;
  static AOQ_INLINE Floats scaled(Ints sum, const float* bias, const float* multiplier) {
    return (Floats(_mm256_cvtepi32_ps(sum)) + Floats(_mm256_loadu_ps(bias))) * Floats(_mm256_loadu_ps(multiplier));
  }
  static AOQ_INLINE Ints rounded(Floats v, float hi) {
    return _mm256_cvtps_epi32(_mm256_min_ps(v.v, _mm256_set1_ps(hi)));
  }
  static AOQ_INLINE Ints packed16(Ints a, Ints b, Ints add) { return _mm256_adds_epi16(_mm256_packs_epi32(a, b), add); }
  static AOQ_INLINE Ints packed8(Ints a, Ints b, Ints least, bool is_signed) {
    return is_signed ? _mm256_max_epi8(_mm256_packs_epi16(a, b), least)
                     : _mm256_max_epu8(_mm256_packus_epi16(a, b), least);
  }
};

// What one block of channels needs besides the image.
struct BlockEnd {
  const float* bias;
  const float* multiplier;
  float hi, inv_out;
  std::int32_t zero_point, least;
  bool is_signed;
};

struct RowJob {
  const std::uint8_t* rows[5];  // of the image, at the block's first channel; the padding pixel outside
  std::int64_t steps[5];        // from column to column; 0 outside
  const std::uint8_t* padding;
  std::int64_t first;  // image column of the first kernel column of output pixel 0, may be negative
  std::int64_t width;
  const std::byte* weights;
  std::int32_t x_zero_point;  // of codes as u8
  std::int32_t flip;
  std::int64_t pixels;
  std::uint64_t mask;
  std::uint8_t* out;
  std::int64_t pitch;
};

// One image column, kernel rows in quads: [quad][vector].
template <typename V, int K>
struct Column {
  typename V::Ints quads[(K + 3) / 4][4];
};

template <typename V, int K>
AOQ_INLINE Column<V, K> load_column(const RowJob& job, std::int64_t index) {
  const std::int64_t ix = job.first + index;
  const bool inside = ix >= 0 && ix < job.width;
  const auto mask = static_cast<typename V::Mask>(job.mask);
  const typename V::Ints flip = V::bytes(job.flip);
  typename V::Ints row[(K + 3) / 4 * 4];
#pragma GCC unroll 8
  for (int r = 0; r < (K + 3) / 4 * 4; ++r) {
    if (r < K) {
      const std::uint8_t* from = inside ? job.rows[r] + ix * job.steps[r] : job.padding;
      row[r] = V::flipped(V::load(mask, from), flip);
    } else {
      row[r] = V::zero();
    }
  }
  Column<V, K> column;
#pragma GCC unroll 2
  for (int q = 0; q < (K + 3) / 4; ++q) {
    const typename V::Ints a = V::low8(row[4 * q], row[4 * q + 1]), b = V::high8(row[4 * q], row[4 * q + 1]);
    const typename V::Ints c = V::low8(row[4 * q + 2], row[4 * q + 3]), d = V::high8(row[4 * q + 2], row[4 * q + 3]);
    column.quads[q][0] = V::low16(a, c);
    column.quads[q][1] = V::high16(a, c);
    column.quads[q][2] = V::low16(b, d);
    column.quads[q][3] = V::high16(b, d);
  }
  return column;
}

template <typename V>
struct Sums {
  typename V::Ints v[4];
};

// Adds the column as kernel column `kw`.
template <typename V, int K>
AOQ_INLINE void add_column(Sums<V>& sums, const Column<V, K>& column, const std::byte* weights, int kw) {
  constexpr int kQuads = (K + 3) / 4;
#pragma GCC unroll 2
  for (int q = 0; q < kQuads; ++q) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const std::byte* w = weights + (4 * (1 + kw * kQuads + q) + j) * 64;
      sums.v[j] = V::dot(sums.v[j], column.quads[q][j], V::load(w));
    }
  }
}

template <typename V, bool kHardswish>
AOQ_INLINE void store_pixel(const RowJob& job, const BlockEnd& end, std::int64_t pixel, const Sums<V>& sums) {
  typename V::Ints v[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    typename V::Floats y = V::scaled(sums.v[j], end.bias + 16 * j, end.multiplier + 16 * j);
    if constexpr (kHardswish) y = math::hardswish_fn(y) * typename V::Floats(end.inv_out);
    v[j] = V::rounded(y, end.hi);
  }
  const typename V::Ints zero_point = V::shorts(end.zero_point);
  const typename V::Ints low = V::packed16(v[0], v[1], zero_point), high = V::packed16(v[2], v[3], zero_point);
  const typename V::Ints codes = V::packed8(low, high, V::bytes(end.least), end.is_signed);
  V::store(job.out + pixel * job.pitch, static_cast<typename V::Mask>(job.mask), codes);
}

// An output row. The sums of the pixels that an image column touches are kept together.
template <typename V, int K, int S, bool kHardswish>
void convolve_row(const RowJob& job, const BlockEnd& end) {
  constexpr int kLive = (K - 1) / S + 1;
  Sums<V> start, live[kLive];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) start.v[j] = V::times(V::load(job.weights + 64 * j), -job.x_zero_point);
#pragma GCC unroll 5
  for (int k = 0; k < kLive; ++k) live[k] = start;
#pragma GCC unroll 5
  for (int c = 0; c < K - S; ++c) {
    const Column<V, K> column = load_column<V, K>(job, c);
#pragma GCC unroll 5
    for (int k = 0; k < kLive; ++k) {
      if (c - k * S >= 0) add_column<V, K>(live[k], column, job.weights, c - k * S);
    }
  }
  for (std::int64_t pixel = 0; pixel < job.pixels; ++pixel) {
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) {
      const Column<V, K> column = load_column<V, K>(job, pixel * S + K - S + s);
#pragma GCC unroll 5
      for (int k = 0; k < kLive; ++k) {
        const int kw = K - S + s - k * S;
        if (kw >= 0) add_column<V, K>(live[k], column, job.weights, kw);
      }
    }
    store_pixel<V, kHardswish>(job, end, pixel, live[0]);
#pragma GCC unroll 5
    for (int k = 0; k + 1 < kLive; ++k) live[k] = live[k + 1];
    live[kLive - 1] = start;
  }
}

using ConvolveRow = void (*)(const RowJob&, const BlockEnd&);

template <typename V, bool kHardswish>
ConvolveRow row_of(const ConvDims& d) {
  if (d.kernel_w == 3) {
    return d.stride_w == 1 ? convolve_row<V, 3, 1, kHardswish> : convolve_row<V, 3, 2, kHardswish>;
  }
  return d.stride_w == 1 ? convolve_row<V, 5, 1, kHardswish> : convolve_row<V, 5, 2, kHardswish>;
}

ConvolveRow row_of(const DepthwiseVnniPlan& plan, bool is_wide) {
  if (plan.epilogue.activation.kind == Activation::hardswish) {
    return is_wide ? row_of<Wide, true>(plan.dims) : row_of<Narrow, true>(plan.dims);
  }
  return is_wide ? row_of<Wide, false>(plan.dims) : row_of<Narrow, false>(plan.dims);
}

BlockEnd end_of(const EpilogueS8& e) {
  BlockEnd end = {};
  end.hi = e.bounds.hi;
  end.inv_out = e.inv_out;
  end.zero_point = e.bounds.zero_point;
  end.least = static_cast<std::int32_t>(e.bounds.lo) + e.bounds.zero_point;
  end.is_signed = e.out_type == DType::i8;
  return end;
}

void find_rows(const ConvDims& d, const std::uint8_t* image, std::int64_t oy, RowJob& job) {
  for (std::int64_t r = 0; r < d.kernel_h; ++r) {
    const std::int64_t iy = oy * d.stride_h - d.pad_top + r;
    const bool inside = iy >= 0 && iy < d.in_h;
    job.rows[r] = inside ? image + iy * d.in_w * d.in_c : job.padding;
    job.steps[r] = inside ? d.in_c : 0;
  }
}

}  // namespace

void run_depthwise_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                               std::int64_t unit_end, std::byte* scratch) {
  const ConvDims& d = plan.dims;
  RowJob job = {};
  job.padding = reinterpret_cast<const std::uint8_t*>(scratch);
  job.first = -d.pad_left;
  job.width = d.in_w;
  job.flip = plan.x_type == DType::i8 ? 128 : 0;
  job.x_zero_point = args.x_zero_point + job.flip;
  job.pixels = d.out_w;
  job.pitch = d.out_c;
  __builtin_memset(scratch, static_cast<std::uint8_t>(args.x_zero_point), 64);
  BlockEnd end = end_of(plan.epilogue);
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const std::int64_t block = unit % plan.blocks, rows = unit / plan.blocks, channel = 64 * block;
    const std::int64_t image = rows / plan.row_blocks, row = rows % plan.row_blocks * plan.row_block;
    const std::int64_t channels = min_of(d.in_c - channel, 64);
    end.bias = args.epilogue.bias + channel;
    end.multiplier = args.epilogue.multiplier + channel;
    job.weights = args.weights + block * plan.block_bytes;
    job.mask = ~std::uint64_t{0} >> (64 - channels);
    const ConvolveRow convolve = row_of(plan, channels > Narrow::kChannels);
    const auto* x = static_cast<const std::uint8_t*>(args.x) + image * d.in_h * d.in_w * d.in_c + channel;
    auto* out = static_cast<std::uint8_t*>(args.epilogue.out) + image * d.out_h * d.out_w * d.out_c + channel;
    for (std::int64_t oy = row; oy < min_of(row + plan.row_block, d.out_h); ++oy) {
      find_rows(d, x, oy, job);
      job.out = out + oy * d.out_w * d.out_c;
      convolve(job, end);
    }
  }
}

}  // namespace aoq::cpu
