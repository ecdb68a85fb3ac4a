// What the kernels of depthwise_vnni.h share: vectors of 64 channels, or of fewer channels of several pixels, image
// columns, ends and the units of a plan. In an unnamed namespace, as the translation units of one instruction set
// include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))

// Image rows that one or two output rows touch, at most.
constexpr int kMostRows = kDepthwiseRows;

// Pixels of an output row whose codes share vectors with those of other groups.
struct PixelGroup {
  std::int64_t first, bytes;  // pixel, and where it is in the row
};

// One output row, or two below each other.
struct RowJob {
  const std::uint8_t* padding;      // a pixel of the block's channels, all the code of zero
  std::int64_t offsets[kMostRows];  // from there to the image rows, at the block's first channel; 0 outside the image
  std::int64_t masks[kMostRows];    // of offsets in a row: 0 outside
  std::int64_t first;               // image column of the first kernel column of output pixel 0, may be negative
  std::int64_t width, step;         // pixels of an image row, bytes from one to the next
  const std::byte* weights;
  std::byte* taps;            // of 3x3 kernels, as their rows take them
  std::int32_t x_zero_point;  // of codes as u8
  std::int32_t flip;
  std::int64_t channels;
  std::uint64_t mask;  // of them
  std::uint8_t* out;
  std::int64_t pitch, row_pitch;  // bytes from one output pixel, and output row, to the next
  std::int64_t pixels;            // of an output row, or of each of its groups
  PixelGroup groups[4];
  std::byte* halves;     // of 5x5 kernels, [pixels][64]: the first half of the channels as s16
  std::byte* copies;     // [rows][columns][64]: image rows as u8, for vectors of 64 codes
  std::int64_t columns;  // of those
};

// Vectors of the channels of one pixel. Masks count channels.
struct Wide {
  static constexpr int kGroups = 1;
  using Ints = __m512i;
  static AOQ_INLINE Ints load(const void* p) { return _mm512_load_si512(p); }
  static AOQ_INLINE void store(void* p, Ints v) { _mm512_store_si512(p, v); }
  // A vector of what each channel has.
  static AOQ_INLINE Ints of_channels(const std::byte* p) { return _mm512_load_si512(p); }
  static AOQ_INLINE Ints codes(const RowJob& job, const std::uint8_t* p) {
    return _mm512_maskz_loadu_epi8(job.mask, p);
  }
  static AOQ_INLINE void store_codes(const RowJob& job, std::uint8_t* p, Ints v) {
    _mm512_mask_storeu_epi8(p, job.mask, v);
  }
  // One group of a line that is copied.
  static AOQ_INLINE void store_group(std::byte* to, Ints v) { store(to, v); }
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
  static AOQ_INLINE Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  // Moves the first taps of quads to a place.
  template <int kPlace>
  static AOQ_INLINE Ints tap_at(Ints taps) {
    return _mm512_slli_epi32(taps, 8 * kPlace);
  }
  using Floats = F32x16;
  static AOQ_INLINE Floats floats(Ints v) { return Floats(_mm512_cvtepi32_ps(v)); }
  static AOQ_INLINE Floats of_channels(const float* p) { return Floats(_mm512_loadu_ps(p)); }
  static AOQ_INLINE Ints rounded(Floats v) { return _mm512_cvtps_epi32(v.v); }
  static AOQ_INLINE Ints packed16(Ints a, Ints b) { return _mm512_packs_epi32(a, b); }
  static AOQ_INLINE Ints added16(Ints a, Ints b) { return _mm512_adds_epi16(a, b); }
  static AOQ_INLINE Ints packed8(Ints a, Ints b) { return _mm512_packus_epi16(a, b); }
  static AOQ_INLINE Ints clamped(Ints v, Ints least, Ints most) {
    return _mm512_min_epu8(_mm512_max_epu8(v, least), most);
  }
};

// All 64 channels: masks cost loads a unit that computes.
struct Whole : Wide {
  static AOQ_INLINE Ints codes(const RowJob&, const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static AOQ_INLINE void store_codes(const RowJob&, std::uint8_t* p, Ints v) { _mm512_storeu_si512(p, v); }
};

// Up to 32 channels.
struct Narrow {
  static constexpr int kGroups = 1;
  using Ints = __m256i;
  static AOQ_INLINE Ints load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
  static AOQ_INLINE void store(void* p, Ints v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }
  static AOQ_INLINE Ints of_channels(const std::byte* p) { return load(p); }
  static AOQ_INLINE Ints codes(const RowJob& job, const std::uint8_t* p) {
    return _mm256_maskz_loadu_epi8(static_cast<__mmask32>(job.mask), p);
  }
  static AOQ_INLINE void store_codes(const RowJob& job, std::uint8_t* p, Ints v) {
    _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(job.mask), v);
  }
  static AOQ_INLINE void store_group(std::byte* to, Ints v) { store(to, v); }
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
  static AOQ_INLINE Ints either(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  // Moves the first taps of quads to a place.
  template <int kPlace>
  static AOQ_INLINE Ints tap_at(Ints taps) {
    return _mm256_slli_epi32(taps, 8 * kPlace);
  }
  using Floats = F32x8;
  static AOQ_INLINE Floats floats(Ints v) { return Floats(_mm256_cvtepi32_ps(v)); }
  static AOQ_INLINE Floats of_channels(const float* p) { return Floats(_mm256_loadu_ps(p)); }
  static AOQ_INLINE Ints rounded(Floats v) { return _mm256_cvtps_epi32(v.v); }
  static AOQ_INLINE Ints packed16(Ints a, Ints b) { return _mm256_packs_epi32(a, b); }
  static AOQ_INLINE Ints added16(Ints a, Ints b) { return _mm256_adds_epi16(a, b); }
  static AOQ_INLINE Ints packed8(Ints a, Ints b) { return _mm256_packus_epi16(a, b); }
  static AOQ_INLINE Ints clamped(Ints v, Ints least, Ints most) {
    return _mm256_min_epu8(_mm256_max_epu8(v, least), most);
  }
};

// Up to 16 channels: those of four pixels.
struct Quarters : Wide {
  static constexpr int kGroups = 4;
  static AOQ_INLINE Ints of_channels(const std::byte* p) {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static AOQ_INLINE Floats of_channels(const float* p) { return Floats(_mm512_broadcast_f32x4(_mm_loadu_ps(p))); }
  static AOQ_INLINE void store_codes(const RowJob& job, std::uint8_t* p, Ints v) {
    const auto mask = static_cast<__mmask16>(job.mask);
    _mm_mask_storeu_epi8(p, mask, _mm512_castsi512_si128(v));
    _mm_mask_storeu_epi8(p + job.groups[1].bytes, mask, _mm512_extracti32x4_epi32(v, 1));
    _mm_mask_storeu_epi8(p + job.groups[2].bytes, mask, _mm512_extracti32x4_epi32(v, 2));
    _mm_mask_storeu_epi8(p + job.groups[3].bytes, mask, _mm512_extracti32x4_epi32(v, 3));
  }
  // Of one group, in the first quarter.
  static AOQ_INLINE Ints codes(const RowJob& job, const std::uint8_t* p) {
    return _mm512_castsi128_si512(_mm_maskz_loadu_epi8(static_cast<__mmask16>(job.mask), p));
  }
  static AOQ_INLINE void store_group(std::byte* to, Ints v) {
    _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(v));
  }
};

// What sums become. Codes are plain where saturation is all that they need: u8 with all its values and a zero point of
// 0.
enum class DepthwiseEnd : std::uint8_t { codes, plain_codes, hardswish };

// What one block of channels needs besides the image. Codes are made as u8, signed ones with a zero point 128 higher.
struct BlockEnd {
  const float* bias;
  const float* multiplier;
  float inv_out;
  std::int32_t zero_point, least, most, flip;
  bool are_all;  // codes are all of u8: saturation has clamped already
  DepthwiseEnd kind;
};

// The rows of one image column.
template <typename V, int kRows>
struct Rows {
  typename V::Ints row[kRows];
};

template <typename V, int kRows>
AOQ_INLINE Rows<V, kRows> load_rows(const RowJob& job, const std::uint8_t* const (&from)[kRows]) {
  Rows<V, kRows> rows;
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r) rows.row[r] = V::codes(job, from[r]);
  if (job.flip == 0) return rows;
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r) rows.row[r] = V::flipped(rows.row[r], V::bytes(job.flip));
  return rows;
}

AOQ_INLINE bool is_inside(const RowJob& job, std::int64_t column) {
  const std::int64_t ix = job.first + column;
  return ix >= 0 && ix < job.width;
}

// Any column, inside the image or not.
template <typename V, int kRows>
AOQ_INLINE Rows<V, kRows> load_column(const RowJob& job, std::int64_t column) {
  const bool inside = is_inside(job, column);
  const std::int64_t at = (job.first + column) * job.step;
  const std::uint8_t* from[kRows];
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r) from[r] = job.padding + (inside ? job.offsets[r] + (at & job.masks[r]) : 0);
  return load_rows<V, kRows>(job, from);
}

// Columns inside the image, one after the other.
template <typename V, int kRows>
struct Reader {
  const std::uint8_t* from[kRows];
  std::int64_t steps[kRows];

  AOQ_INLINE Reader(const RowJob& job, std::int64_t column) {
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r) {
      from[r] = job.padding + job.offsets[r] + ((job.first + column) * job.step & job.masks[r]);
      steps[r] = job.step & job.masks[r];
    }
  }
  AOQ_INLINE Rows<V, kRows> next(const RowJob& job) {
    const auto rows = load_rows<V, kRows>(job, from);
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r) from[r] += steps[r];
    return rows;
  }
};

template <typename V, int N>
struct Sums {
  typename V::Ints v[N];
};

// What the sums of a block's channels become, or those of some of its four vectors.
template <typename V, int N>
struct PartEnd {
  typename V::Floats bias[N], multiplier[N];
  typename V::Ints zero_point, least, most, flip;
  float inv_out;
  bool are_all;
};

// From vector `first` of the four.
template <typename V, int N>
AOQ_INLINE PartEnd<V, N> part_end(const BlockEnd& end, int first) {
  PartEnd<V, N> result;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    result.bias[j] = V::of_channels(end.bias + 16 * (first + j));
    result.multiplier[j] = V::of_channels(end.multiplier + 16 * (first + j));
  }
  result.zero_point = V::shorts(end.zero_point);
  result.least = V::bytes(end.least);
  result.most = V::bytes(end.most);
  result.flip = V::bytes(end.flip);
  result.inv_out = end.inv_out;
  result.are_all = end.are_all;
  return result;
}

// Two vectors of sums, from vector `j` of the end, to s16 with the zero point.
template <typename V, DepthwiseEnd kEnd, int N>
AOQ_INLINE typename V::Ints finish_pair(const PartEnd<V, N>& end, int j, const Sums<V, N>& sums) {
  typename V::Ints v[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    typename V::Floats y = (V::floats(sums.v[j + i]) + end.bias[j + i]) * end.multiplier[j + i];
    if constexpr (kEnd == DepthwiseEnd::hardswish) y = hardswish_of_normal(y) * typename V::Floats(end.inv_out);
    v[i] = V::rounded(y);
  }
  const typename V::Ints shorts = V::packed16(v[0], v[1]);
  return kEnd == DepthwiseEnd::plain_codes ? shorts : V::added16(shorts, end.zero_point);
}

template <typename V, DepthwiseEnd kEnd, int N>
AOQ_INLINE void store_codes(const RowJob& job, const PartEnd<V, N>& end, std::uint8_t* out, typename V::Ints low,
                            typename V::Ints high) {
  typename V::Ints codes = V::packed8(low, high);
  if (kEnd != DepthwiseEnd::plain_codes && !end.are_all) {
    codes = V::flipped(V::clamped(codes, end.least, end.most), end.flip);
  }
  V::store_codes(job, out, codes);
}

BlockEnd end_of(const EpilogueS8& e) {
  BlockEnd end = {};
  end.flip = e.out_type == DType::i8 ? 128 : 0;
  end.inv_out = e.inv_out;
  end.zero_point = e.bounds.zero_point + end.flip;
  end.least = static_cast<std::int32_t>(e.bounds.lo) + end.zero_point;
  end.most = static_cast<std::int32_t>(e.bounds.hi) + end.zero_point;
  end.are_all = end.least == 0 && end.most == 255 && end.flip == 0;
  end.kind = e.activation.kind == Activation::hardswish ? DepthwiseEnd::hardswish
             : has_whole_codes(e)                       ? DepthwiseEnd::plain_codes
                                                        : DepthwiseEnd::codes;
  return end;
}

// Output rows of one image and block of channels.
struct BlockRows {
  const ConvDims& dims;
  const std::uint8_t* image;  // at the block's first channel
  std::uint8_t* out;          // the same
  std::int64_t begin, end;
};

// Points a job at `count` output rows from `oy`.
AOQ_INLINE void set_rows(const BlockRows& rows, std::int64_t oy, std::int64_t count, RowJob& job) {
  const ConvDims& d = rows.dims;
  const auto from_padding = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(rows.image) -
                                                      reinterpret_cast<std::uintptr_t>(job.padding));
#pragma GCC unroll 5
  for (std::int64_t r = 0; r < d.kernel_h + (count - 1) * d.stride_h; ++r) {
    const std::int64_t iy = oy * d.stride_h - d.pad_top + r;
    const bool inside = iy >= 0 && iy < d.in_h;
    job.offsets[r] = inside ? from_padding + iy * d.in_w * d.in_c : 0;
    job.masks[r] = inside ? -1 : 0;
  }
  job.out = rows.out + oy * job.row_pitch;
}

// Groups of pixels of nearly the same size: the last ones may overlap.
template <typename V>
AOQ_INLINE void set_groups(const ConvDims& d, RowJob& job) {
  job.pixels = (d.out_w + V::kGroups - 1) / V::kGroups;
  job.columns = (job.pixels - 1) * d.stride_w + d.kernel_w;
#pragma GCC unroll 4
  for (int g = 0; g < V::kGroups; ++g) {
    const std::int64_t first = min_of(g * job.pixels, d.out_w - job.pixels);
    job.groups[g] = {first, first * job.pitch};
  }
}

// Copies row `iy` of the image, or padding, group by group.
template <typename V>
void copy_row(const RowJob& job, const BlockRows& rows, std::int64_t iy, std::byte* to) {
  const ConvDims& d = rows.dims;
  const typename V::Ints padding = V::bytes(job.x_zero_point), flip = V::bytes(job.flip);
  const std::int64_t width = iy >= 0 && iy < d.in_h ? d.in_w : 0;
#pragma GCC unroll 4
  for (int g = 0; g < V::kGroups; ++g) {
    const std::int64_t first = job.groups[g].first * d.stride_w - d.pad_left;
    const std::int64_t begin = min_of(max_of(-first, 0), job.columns);
    const std::int64_t end = max_of(min_of(width - first, job.columns), begin);
    std::byte* group = to + 64 / V::kGroups * g;
    for (std::int64_t c = 0; c < begin; ++c) V::store_group(group + 64 * c, padding);
    const std::uint8_t* from = rows.image + (begin < end ? (iy * d.in_w + first + begin) * d.in_c : 0);
    for (std::int64_t c = begin; c < end; ++c, from += d.in_c) {
      V::store_group(group + 64 * c, V::flipped(V::codes(job, from), flip));
    }
    for (std::int64_t c = end; c < job.columns; ++c) V::store_group(group + 64 * c, padding);
  }
}

// The copies of the image rows of output rows, [columns][64].
struct CopiedRows {
  const std::byte* row[kMostRows];
};

// Copies image rows once, in the order of the output rows that need them.
template <typename V>
class RowRing {
 public:
  AOQ_INLINE RowRing(const RowJob& job, const BlockRows& rows)
      : job_(job), rows_(rows), first_(first_of(rows.begin)), next_(first_) {}

  // Of `count` output rows from `oy`.
  AOQ_INLINE CopiedRows rows_of(std::int64_t oy, std::int64_t count) {
    const ConvDims& d = rows_.dims;
    const std::int64_t first = first_of(oy), end = first + d.kernel_h + (count - 1) * d.stride_h;
    for (next_ = max_of(next_, first); next_ < end; ++next_) copy_row<V>(job_, rows_, next_, place_of(next_));
    CopiedRows copied;
    for (int r = 0; r < kMostRows; ++r) copied.row[r] = place_of(first + r);
    return copied;
  }

 private:
  std::int64_t first_of(std::int64_t oy) const { return oy * rows_.dims.stride_h - rows_.dims.pad_top; }
  std::byte* place_of(std::int64_t iy) const { return job_.copies + (iy - first_) % kMostRows * job_.columns * 64; }

  const RowJob& job_;
  const BlockRows& rows_;
  std::int64_t first_, next_;
};

template <typename V, int kRows>
AOQ_INLINE Rows<V, kRows> copied_column(const CopiedRows& copied, std::int64_t column) {
  Rows<V, kRows> rows;
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r) rows.row[r] = V::load(copied.row[r] + 64 * column);
  return rows;
}

// Units [begin, end) of a plan.
struct DepthwiseUnits {
  const DepthwiseVnniPlan& plan;
  const DepthwiseS8Args& args;
  std::int64_t begin, end;
  std::byte* scratch;
};

// Calls convolve(job, end, rows) for every unit; the job has no rows yet.
template <typename Convolve>
AOQ_INLINE void run_units(const DepthwiseUnits& units, Convolve convolve) {
  const DepthwiseVnniPlan& plan = units.plan;
  const DepthwiseS8Args& args = units.args;
  const ConvDims& d = plan.dims;
  RowJob job = {};
  job.padding = reinterpret_cast<const std::uint8_t*>(units.scratch);
  job.halves = job.taps = units.scratch + 64;
  job.copies = job.taps + plan.prepared_bytes;
  job.first = -d.pad_left;
  job.width = d.in_w;
  job.step = d.in_c;
  job.flip = plan.x_type == DType::i8 ? 128 : 0;
  job.x_zero_point = args.x_zero_point + job.flip;
  job.pitch = d.out_c;
  job.row_pitch = d.out_w * d.out_c;
  __builtin_memset(units.scratch, static_cast<std::uint8_t>(args.x_zero_point), 64);
  BlockEnd end = end_of(plan.epilogue);
  for (std::int64_t unit = units.begin; unit < units.end; ++unit) {
    const std::int64_t block = unit % plan.blocks, rows = unit / plan.blocks, channel = 64 * block;
    const std::int64_t image = rows / plan.row_blocks, row = rows % plan.row_blocks * plan.row_block;
    const std::int64_t row_end = min_of(row + plan.row_block, d.out_h);
    job.channels = min_of(d.in_c - channel, 64);
    end.bias = args.epilogue.bias + channel;
    end.multiplier = args.epilogue.multiplier + channel;
    job.weights = args.weights + block * plan.block_bytes;
    job.mask = ~std::uint64_t{0} >> (64 - job.channels);
    const auto* x = static_cast<const std::uint8_t*>(args.x) + image * d.in_h * d.in_w * d.in_c + channel;
    auto* out = static_cast<std::uint8_t*>(args.epilogue.out) + image * d.out_h * d.out_w * d.out_c + channel;
    convolve(job, end, BlockRows{d, x, out, row, row_end});
  }
}

// Runs units by Kernel::convolve_rows<V, S, kEnd>(job, end, rows): of the width for the block's channels, strides of S,
// and one kind of end.
template <typename Kernel, typename V, DepthwiseEnd kEnd>
void convolve(const RowJob& job, const BlockEnd& end, const BlockRows& rows) {
  if (rows.dims.stride_w == 1) return Kernel::template convolve_rows<V, 1, kEnd>(job, end, rows);
  Kernel::template convolve_rows<V, 2, kEnd>(job, end, rows);
}

template <typename Kernel, DepthwiseEnd kEnd>
void convolve(const RowJob& job, const BlockEnd& end, const BlockRows& rows) {
  if (job.channels <= 16) return convolve<Kernel, Quarters, kEnd>(job, end, rows);
  if (job.channels <= 32) return convolve<Kernel, Narrow, kEnd>(job, end, rows);
  if (job.channels < 64) return convolve<Kernel, Wide, kEnd>(job, end, rows);
  convolve<Kernel, Whole, kEnd>(job, end, rows);
}

template <typename Kernel>
void run_kernel(const DepthwiseUnits& units) {
  run_units(units, [](const RowJob& job, const BlockEnd& end, const BlockRows& rows) {
    if (end.kind == DepthwiseEnd::hardswish) return convolve<Kernel, DepthwiseEnd::hardswish>(job, end, rows);
    if (end.kind == DepthwiseEnd::codes) return convolve<Kernel, DepthwiseEnd::codes>(job, end, rows);
    convolve<Kernel, DepthwiseEnd::plain_codes>(job, end, rows);
  });
}

}  // namespace
}  // namespace aoq::cpu
