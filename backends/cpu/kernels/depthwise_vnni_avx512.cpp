// The kernels of depthwise_vnni.h, 64 channels in four 512-bit vectors or up to 32 in four 256-bit ones.
#include <type_traits>

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/simd_avx2.h"
#include "backends/cpu/kernels/simd_avx512.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))

// The two widths with one set of names. Masks count channels.
struct Wide {
  using Ints = __m512i;
  using Mask = __mmask64;
  static AOQ_INLINE Ints load(const void* p) { return _mm512_load_si512(p); }
  static AOQ_INLINE Ints load(Mask m, const std::uint8_t* p) { return _mm512_maskz_loadu_epi8(m, p); }
  static AOQ_INLINE void store(void* p, Ints v) { _mm512_store_si512(p, v); }
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
  static AOQ_INLINE Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  // Moves the first taps of quads to a place.
  template <int kPlace>
  static AOQ_INLINE Ints tap_at(Ints taps) {
    return _mm512_slli_epi32(taps, 8 * kPlace);
  }
  using Floats = F32x16;
  static AOQ_INLINE Floats floats(Ints v) { return Floats(_mm512_cvtepi32_ps(v)); }
  static AOQ_INLINE Floats floats(const float* p) { return Floats(_mm512_loadu_ps(p)); }
  static AOQ_INLINE Ints rounded(Floats v) { return _mm512_cvtps_epi32(v.v); }
  static AOQ_INLINE Ints packed16(Ints a, Ints b, Ints add) { return _mm512_adds_epi16(_mm512_packs_epi32(a, b), add); }
  static AOQ_INLINE Ints packed8(Ints a, Ints b) { return _mm512_packus_epi16(a, b); }
  static AOQ_INLINE Ints clamped(Ints v, Ints least, Ints most) {
    return _mm512_min_epu8(_mm512_max_epu8(v, least), most);
  }
};

struct Narrow {
  using Ints = __m256i;
  using Mask = __mmask32;
  static constexpr int kChannels = 32;
  static AOQ_INLINE Ints load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
  static AOQ_INLINE Ints load(Mask m, const std::uint8_t* p) { return _mm256_maskz_loadu_epi8(m, p); }
  static AOQ_INLINE void store(void* p, Ints v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }
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
  static AOQ_INLINE Ints either(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  // Moves the first taps of quads to a place.
  template <int kPlace>
  static AOQ_INLINE Ints tap_at(Ints taps) {
    return _mm256_slli_epi32(taps, 8 * kPlace);
  }
  using Floats = F32x8;
  static AOQ_INLINE Floats floats(Ints v) { return Floats(_mm256_cvtepi32_ps(v)); }
  static AOQ_INLINE Floats floats(const float* p) { return Floats(_mm256_loadu_ps(p)); }
  static AOQ_INLINE Ints rounded(Floats v) { return _mm256_cvtps_epi32(v.v); }
  static AOQ_INLINE Ints packed16(Ints a, Ints b, Ints add) { return _mm256_adds_epi16(_mm256_packs_epi32(a, b), add); }
  static AOQ_INLINE Ints packed8(Ints a, Ints b) { return _mm256_packus_epi16(a, b); }
  static AOQ_INLINE Ints clamped(Ints v, Ints least, Ints most) {
    return _mm256_min_epu8(_mm256_max_epu8(v, least), most);
  }
};

// What one block of channels needs besides the image. Codes are made as u8, signed ones with a zero point 128 higher.
struct BlockEnd {
  const float* bias;
  const float* multiplier;
  float inv_out;
  std::int32_t zero_point, least, most, flip;
  bool are_all;  // codes are all of u8: saturation has clamped already
};

// Image rows that one or two output rows touch, at most.
constexpr int kMostRows = 5;

// One output row, or two below each other.
struct RowJob {
  const std::uint8_t* padding;      // a pixel of the block's channels, all the code of zero
  std::int64_t offsets[kMostRows];  // from there to the image rows, at the block's first channel; 0 outside the image
  std::int64_t masks[kMostRows];    // of offsets in a row: 0 outside
  std::int64_t first;               // image column of the first kernel column of output pixel 0, may be negative
  std::int64_t width, step;         // pixels of an image row, bytes from one to the next
  const std::byte* weights;
  std::int32_t x_zero_point;  // of codes as u8
  std::int32_t flip;
  std::int64_t pixels;
  std::uint64_t mask;  // of channels
  std::uint8_t* out;
  std::int64_t pitch, row_pitch;  // bytes from one output pixel, and output row, to the next
  std::byte* halves;              // [rows][pixels][64]: the first half of the channels as s16
};

// Which of the four vectors of every quad of rows are computed together: two, of the channels in the low or the high
// halves of 16-byte lanes, or all.
enum class Part : std::uint8_t { low, high, all };

constexpr int vectors_of(Part part) {
  return part == Part::all ? 4 : 2;
}

// Interleaves the bytes of two rows, or columns, of the part.
template <typename V, Part kPart>
AOQ_INLINE typename V::Ints pair_of(typename V::Ints a, typename V::Ints b) {
  return kPart == Part::high ? V::high8(a, b) : V::low8(a, b);
}

// One image column: up to four rows interleaved, and a fifth as it is.
template <typename V, int N>
struct Column {
  typename V::Ints quad[N];
  typename V::Ints fifth;
};

template <typename V, int kRows, Part kPart>
AOQ_INLINE Column<V, vectors_of(kPart)> column_of(const RowJob& job, const std::uint8_t* const (&from)[kRows]) {
  typename V::Ints row[5];
#pragma GCC unroll 5
  for (int r = 0; r < 5; ++r) {
    row[r] = r < kRows ? V::load(static_cast<typename V::Mask>(job.mask), from[r < kRows ? r : 0]) : V::zero();
  }
  if (job.flip != 0) {
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r) row[r] = V::flipped(row[r], V::bytes(job.flip));
  }
  Column<V, vectors_of(kPart)> column;
  const typename V::Ints a = pair_of<V, kPart>(row[0], row[1]), b = pair_of<V, kPart>(row[2], row[3]);
  column.quad[0] = V::low16(a, b);
  column.quad[1] = V::high16(a, b);
  if constexpr (kPart == Part::all) {
    const typename V::Ints c = V::high8(row[0], row[1]), d = V::high8(row[2], row[3]);
    column.quad[2] = V::low16(c, d);
    column.quad[3] = V::high16(c, d);
  }
  column.fifth = row[4];
  return column;
}

AOQ_INLINE bool is_inside(const RowJob& job, std::int64_t column) {
  const std::int64_t ix = job.first + column;
  return ix >= 0 && ix < job.width;
}

// Any column, inside the image or not.
template <typename V, int kRows, Part kPart>
AOQ_INLINE Column<V, vectors_of(kPart)> load_column(const RowJob& job, std::int64_t column) {
  const bool inside = is_inside(job, column);
  const std::int64_t at = (job.first + column) * job.step;
  const std::uint8_t* from[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) from[r] = job.padding + (inside ? job.offsets[r] + (at & job.masks[r]) : 0);
  return column_of<V, kRows, kPart>(job, from);
}

// Columns inside the image, one after the other.
template <typename V, int kRows, Part kPart>
struct Reader {
  const std::uint8_t* from[kRows];
  std::int64_t steps[kRows];

  AOQ_INLINE Reader(const RowJob& job, std::int64_t column) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      from[r] = job.padding + job.offsets[r] + ((job.first + column) * job.step & job.masks[r]);
      steps[r] = job.step & job.masks[r];
    }
  }
  AOQ_INLINE Column<V, vectors_of(kPart)> next(const RowJob& job) {
    const auto column = column_of<V, kRows, kPart>(job, from);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) from[r] += steps[r];
    return column;
  }
};

template <typename V, int N>
struct Sums {
  typename V::Ints v[N];
};

// Taps of one kernel column, of the first four rows.
template <typename V, int N>
struct Taps {
  typename V::Ints quad[N];
};

template <typename V, int N>
AOQ_INLINE void add(Sums<V, N>& sums, const typename V::Ints (&quad)[N], const typename V::Ints (&taps)[N]) {
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) sums.v[j] = V::dot(sums.v[j], quad[j], taps[j]);
}

// The fifth row of a 5x5 kernel: there quads are four columns next to each other. The last four columns of a pixel make
// one, whose taps are 1 to 4; tap 0 meets its column in the quad of the pixel before.
template <typename V, int S, Part kPart>
struct FifthRow {
  static constexpr int N = vectors_of(kPart), kPairs = S == 1 ? 3 : 2;
  typename V::Ints taps[N], first_taps[N], quad[N], before[N];
  typename V::Ints column, pairs[kPairs];  // the last column, and pairs up to two columns ago

  // `packed` are the taps of the first of the vectors, [kernel_w][2 quads][4 vectors].
  AOQ_INLINE explicit FifthRow(const std::byte* packed) : column(V::zero()) {
#pragma GCC unroll 3
    for (int i = 0; i < kPairs; ++i) pairs[i] = V::zero();
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) {
      const std::byte* w = packed + 256 + 64 * j;
      quad[j] = V::zero();
      first_taps[j] = V::template tap_at<S - 1>(V::load(w));
      taps[j] =
          V::either(V::either(V::template tap_at<0>(V::load(w + 512)), V::template tap_at<1>(V::load(w + 1024))),
                    V::either(V::template tap_at<2>(V::load(w + 1536)), V::template tap_at<3>(V::load(w + 2048))));
    }
  }

  // Column `c` of those of the pixel that is next; the last one, and the one before the pixel's own, end a quad.
  AOQ_INLINE void take(int c, typename V::Ints next) {
    if (S == 1 || c % 2 == 0) {
#pragma GCC unroll 3
      for (int i = 0; i + 1 < kPairs; ++i) pairs[i] = pairs[i + 1];
      pairs[kPairs - 1] = pair_of<V, kPart>(column, next);
    }
    column = next;
    if (c != 4 && c != 4 - S) return;
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) before[j] = quad[j];
    quad[0] = V::low16(pairs[0], pairs[kPairs - 1]);
    quad[1] = V::high16(pairs[0], pairs[kPairs - 1]);
  }

  AOQ_INLINE void add_to(Sums<V, N>& sums) const {
    add<V, N>(sums, quad, taps);
    add<V, N>(sums, before, first_taps);
  }
};

struct NoFifthRow {
  explicit NoFifthRow(const std::byte*) {}
};

// What the sums of a part of a block of channels become.
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
    result.bias[j] = V::floats(end.bias + 16 * (first + j));
    result.multiplier[j] = V::floats(end.multiplier + 16 * (first + j));
  }
  result.zero_point = V::shorts(end.zero_point);
  result.least = V::bytes(end.least);
  result.most = V::bytes(end.most);
  result.flip = V::bytes(end.flip);
  result.inv_out = end.inv_out;
  result.are_all = end.are_all;
  return result;
}

template <typename V, int N>
AOQ_INLINE void store_codes(const RowJob& job, const PartEnd<V, N>& end, std::int64_t row, std::int64_t pixel,
                            typename V::Ints low, typename V::Ints high) {
  typename V::Ints codes = V::packed8(low, high);
  if (!end.are_all) codes = V::flipped(V::clamped(codes, end.least, end.most), end.flip);
  V::store(job.out + row * job.row_pitch + pixel * job.pitch, static_cast<typename V::Mask>(job.mask), codes);
}

template <typename V, int N, bool kHardswish>
AOQ_INLINE void store_pixel(const RowJob& job, const PartEnd<V, N>& end, int first, std::int64_t row,
                            std::int64_t pixel, const Sums<V, N>& sums) {
  typename V::Ints v[N];
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    typename V::Floats y = (V::floats(sums.v[j]) + end.bias[j]) * end.multiplier[j];
    if constexpr (kHardswish) y = hardswish_of_normal(y) * typename V::Floats(end.inv_out);
    v[j] = V::rounded(y);
  }
  const typename V::Ints shorts = V::packed16(v[0], v[1], end.zero_point);
  if constexpr (N == 4) {
    store_codes<V, N>(job, end, row, pixel, shorts, V::packed16(v[2], v[3], end.zero_point));
  } else {
    std::byte* other = job.halves + (row * job.pixels + pixel) * 64;
    if (first == 0) return V::store(other, shorts);
    store_codes<V, N>(job, end, row, pixel, V::load(other), shorts);
  }
}

// What R output rows keep from pixel to pixel. Kernels of 3 keep the columns that they read, larger ones the sums of
// all pixels that a column touches.
template <typename V, int K, int S, int R, Part kPart>
struct Window {
  static constexpr bool kKeepsColumns = K == 3;
  static constexpr int N = vectors_of(kPart), kLive = kKeepsColumns ? 1 : (K - 1) / S + 1;
  Sums<V, N> start, live[kLive][R];
  Taps<V, N> taps[R][K];
  Column<V, N> columns[K];
  std::conditional_t<K == 5, FifthRow<V, S, kPart>, NoFifthRow> fifth;

  // Two rows share the quads of their four image rows: the taps of the second are one place further.
  AOQ_INLINE Window(const RowJob& job, int first) : fifth(job.weights + 256 + 64 * first) {
    static_assert(R == 1 || (K == 3 && S == 1));
    constexpr int kQuads = (K + 3) / 4;
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      const std::byte* sums = job.weights + 64 * (first + j);
      start.v[j] = V::times(V::load(sums), -job.x_zero_point);
#pragma GCC unroll 5
      for (int kw = 0; kw < K; ++kw) {
        taps[0][kw].quad[j] = V::load(sums + 256 * (1 + kw * kQuads));
        if constexpr (R == 2) taps[1][kw].quad[j] = V::template tap_at<1>(taps[0][kw].quad[j]);
      }
    }
#pragma GCC unroll 5
    for (int k = 0; k < kLive; ++k) {
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) live[k][r] = start;
    }
  }

  // Column `c` of the columns of the pixel that is next.
  AOQ_INLINE void take(int c, const Column<V, N>& column) {
    if constexpr (kKeepsColumns) {
      columns[c] = column;
    } else {
#pragma GCC unroll 5
      for (int k = 0; k < kLive; ++k) {
        if (c - k * S >= 0) add<V, N>(live[k][0], column.quad, taps[0][c - k * S].quad);
      }
    }
    if constexpr (K == 5) fifth.take(c, column.fifth);
  }

  AOQ_INLINE Sums<V, N> sums(int row) const {
    Sums<V, N> result = live[0][row];
    if constexpr (kKeepsColumns) {
#pragma GCC unroll 5
      for (int c = 0; c < K; ++c) add<V, N>(result, columns[c].quad, taps[row][c].quad);
    }
    if constexpr (K == 5) fifth.add_to(result);
    return result;
  }

  AOQ_INLINE void advance() {
    if constexpr (kKeepsColumns) {
#pragma GCC unroll 5
      for (int c = 0; c + S < K; ++c) columns[c] = columns[c + S];
    } else {
#pragma GCC unroll 5
      for (int k = 0; k < kLive; ++k) live[k][0] = k + 1 < kLive ? live[k + 1][0] : start;
    }
  }
};

template <typename V, int K, int S, int R, Part kPart, bool kHardswish>
AOQ_INLINE void convolve_part(const RowJob& job, const BlockEnd& block_end, int first) {
  constexpr int kRows = K + R - 1, N = vectors_of(kPart);
  const PartEnd<V, N> end = part_end<V, N>(block_end, first);
  Window<V, K, S, R, kPart> window(job, first);
#pragma GCC unroll 5
  for (int c = 0; c < K - S; ++c) window.take(c, load_column<V, kRows, kPart>(job, c));
  for (std::int64_t pixel = 0; pixel < job.pixels;) {
    std::int64_t last = pixel;  // of the pixels whose columns are all inside
    const std::int64_t next = pixel * S + K - S;
    if (is_inside(job, next)) last = min_of(job.pixels, pixel + (job.width - job.first - next) / S);
    Reader<V, kRows, kPart> reader(job, next);
    for (; pixel < last; ++pixel) {
#pragma GCC unroll 2
      for (int s = 0; s < S; ++s) window.take(K - S + s, reader.next(job));
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) store_pixel<V, N, kHardswish>(job, end, first, r, pixel, window.sums(r));
      window.advance();
    }
    if (pixel == job.pixels) return;
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) window.take(K - S + s, load_column<V, kRows, kPart>(job, pixel * S + K - S + s));
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) store_pixel<V, N, kHardswish>(job, end, first, r, pixel, window.sums(r));
    window.advance();
    ++pixel;
  }
}

// R output rows. Where few sums are kept, all channels are computed at once. Elsewhere it is one half of them, whose
// taps then stay in registers, and then the other: those in the low and those in the high halves of 16-byte lanes.
template <typename V, int K, int S, int R, bool kHardswish>
void convolve_rows(const RowJob& rows, const BlockEnd& end) {
  const RowJob job = rows;  // as stores of bytes could change what it refers to
  if constexpr (K == 3 && S == 2) {
    convolve_part<V, K, S, R, Part::all, kHardswish>(job, end, 0);
  } else {
    convolve_part<V, K, S, R, Part::low, kHardswish>(job, end, 0);
    convolve_part<V, K, S, R, Part::high, kHardswish>(job, end, 2);
  }
}

using ConvolveRows = void (*)(const RowJob&, const BlockEnd&);

// For one output row, or for `rows` at most.
template <typename V, bool kHardswish>
ConvolveRows rows_of(const ConvDims& d, std::int64_t rows) {
  if (d.kernel_w == 5) {
    return d.stride_w == 1 ? convolve_rows<V, 5, 1, 1, kHardswish> : convolve_rows<V, 5, 2, 1, kHardswish>;
  }
  if (d.stride_w == 2) return convolve_rows<V, 3, 2, 1, kHardswish>;
  return rows == 2 ? convolve_rows<V, 3, 1, 2, kHardswish> : convolve_rows<V, 3, 1, 1, kHardswish>;
}

ConvolveRows rows_of(const DepthwiseVnniPlan& plan, bool is_wide, std::int64_t rows) {
  if (plan.epilogue.activation.kind == Activation::hardswish) {
    return is_wide ? rows_of<Wide, true>(plan.dims, rows) : rows_of<Narrow, true>(plan.dims, rows);
  }
  return is_wide ? rows_of<Wide, false>(plan.dims, rows) : rows_of<Narrow, false>(plan.dims, rows);
}

BlockEnd end_of(const EpilogueS8& e) {
  BlockEnd end = {};
  end.flip = e.out_type == DType::i8 ? 128 : 0;
  end.inv_out = e.inv_out;
  end.zero_point = e.bounds.zero_point + end.flip;
  end.least = static_cast<std::int32_t>(e.bounds.lo) + end.zero_point;
  end.most = static_cast<std::int32_t>(e.bounds.hi) + end.zero_point;
  end.are_all = end.least == 0 && end.most == 255 && end.flip == 0;
  return end;
}

// Image rows of `rows` output rows from `oy`.
void find_rows(const ConvDims& d, const std::uint8_t* image, std::int64_t oy, std::int64_t rows, RowJob& job) {
  const auto from_padding = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(image) -
                                                      reinterpret_cast<std::uintptr_t>(job.padding));
  for (std::int64_t r = 0; r < d.kernel_h + rows - 1; ++r) {
    const std::int64_t iy = oy * d.stride_h - d.pad_top + r;
    const bool inside = iy >= 0 && iy < d.in_h;
    job.offsets[r] = inside ? from_padding + iy * d.in_w * d.in_c : 0;
    job.masks[r] = inside ? -1 : 0;
  }
}

}  // namespace

void run_depthwise_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                               std::int64_t unit_end, std::byte* scratch) {
  const ConvDims& d = plan.dims;
  RowJob job = {};
  job.padding = reinterpret_cast<const std::uint8_t*>(scratch);
  job.halves = scratch + 64;
  job.first = -d.pad_left;
  job.width = d.in_w;
  job.step = d.in_c;
  job.flip = plan.x_type == DType::i8 ? 128 : 0;
  job.x_zero_point = args.x_zero_point + job.flip;
  job.pixels = d.out_w;
  job.pitch = d.out_c;
  job.row_pitch = d.out_w * d.out_c;
  __builtin_memset(scratch, static_cast<std::uint8_t>(args.x_zero_point), 64);
  const std::int64_t together = d.kernel_w == 3 && d.stride_w == 1 && d.stride_h == 1 ? 2 : 1;
  BlockEnd end = end_of(plan.epilogue);
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const std::int64_t block = unit % plan.blocks, rows = unit / plan.blocks, channel = 64 * block;
    const std::int64_t image = rows / plan.row_blocks, row = rows % plan.row_blocks * plan.row_block;
    const std::int64_t channels = min_of(d.in_c - channel, 64), row_end = min_of(row + plan.row_block, d.out_h);
    end.bias = args.epilogue.bias + channel;
    end.multiplier = args.epilogue.multiplier + channel;
    job.weights = args.weights + block * plan.block_bytes;
    job.mask = ~std::uint64_t{0} >> (64 - channels);
    const bool is_wide = channels > Narrow::kChannels;
    const auto* x = static_cast<const std::uint8_t*>(args.x) + image * d.in_h * d.in_w * d.in_c + channel;
    auto* out = static_cast<std::uint8_t*>(args.epilogue.out) + image * d.out_h * d.out_w * d.out_c + channel;
    for (std::int64_t oy = row; oy < row_end; oy += together) {
      const std::int64_t count = min_of(together, row_end - oy);
      find_rows(d, x, oy, count, job);
      job.out = out + oy * job.row_pitch;
      rows_of(plan, is_wide, count)(job, end);
    }
  }
}

}  // namespace aoq::cpu
