// Depthwise 5x5 convolution of depthwise_vnni.h: one half of a block's channels after the other, so that its taps stay
// in registers. Both read five image rows, so these are copied first: a block's channels of a row next to each other,
// on whole lines, with its padding.
#include "backends/cpu/kernels/depthwise_vnni_avx512.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

// Which two of the four vectors of every quad of rows are computed together: of the channels in the low or in the high
// halves of 16-byte lanes.
enum class Part : std::uint8_t { low, high };

// Interleaves the bytes of two rows, or columns, of the part.
template <typename V, Part kPart>
AOQ_INLINE typename V::Ints pair_of(typename V::Ints a, typename V::Ints b) {
  return kPart == Part::high ? V::high8(a, b) : V::low8(a, b);
}

// One image column: four rows interleaved, and the fifth as it is.
template <typename V>
struct Column {
  typename V::Ints quad[2];
  typename V::Ints fifth;
};

template <typename V, Part kPart>
AOQ_INLINE Column<V> column_of(const Rows<V, 5>& rows) {
  const typename V::Ints a = pair_of<V, kPart>(rows.row[0], rows.row[1]);
  const typename V::Ints b = pair_of<V, kPart>(rows.row[2], rows.row[3]);
  return {{V::low16(a, b), V::high16(a, b)}, rows.row[4]};
}

// Taps of one kernel column, of the first four rows.
template <typename V>
struct Taps {
  typename V::Ints quad[2];
};

template <typename V>
AOQ_INLINE void add(Sums<V, 2>& sums, const typename V::Ints (&quad)[2], const typename V::Ints (&taps)[2]) {
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) sums.v[j] = V::dot(sums.v[j], quad[j], taps[j]);
}

// The fifth row of a 5x5 kernel: there quads are four columns next to each other. The last four columns of a pixel make
// one, whose taps are 1 to 4; tap 0 meets its column in the quad of the pixel before.
template <typename V, int S, Part kPart>
struct FifthRow {
  static constexpr int kPairs = S == 1 ? 3 : 2;
  typename V::Ints taps[2], first_taps[2], quad[2], before[2];
  typename V::Ints column, pairs[kPairs];  // the last column, and pairs up to two columns ago

  // `packed` are the taps of the first of the vectors, [kernel_w][2 quads][4 vectors].
  AOQ_INLINE explicit FifthRow(const std::byte* packed) : column(V::zero()) {
#pragma GCC unroll 3
    for (int i = 0; i < kPairs; ++i) pairs[i] = V::zero();
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const std::byte* w = packed + 256 + 64 * j;
      quad[j] = V::zero();
      first_taps[j] = V::template tap_at<S - 1>(V::of_channels(w));
      taps[j] = V::either(
          V::either(V::template tap_at<0>(V::of_channels(w + 512)), V::template tap_at<1>(V::of_channels(w + 1024))),
          V::either(V::template tap_at<2>(V::of_channels(w + 1536)), V::template tap_at<3>(V::of_channels(w + 2048))));
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
    for (int j = 0; j < 2; ++j) before[j] = quad[j];
    quad[0] = V::low16(pairs[0], pairs[kPairs - 1]);
    quad[1] = V::high16(pairs[0], pairs[kPairs - 1]);
  }

  AOQ_INLINE void add_to(Sums<V, 2>& sums) const {
    add<V>(sums, quad, taps);
    add<V>(sums, before, first_taps);
  }
};

// What is kept from pixel to pixel: the sums of all pixels that a column touches.
template <typename V, int S, Part kPart>
struct Window {
  static constexpr int kLive = 4 / S + 1;
  Sums<V, 2> start, live[kLive];
  Taps<V> taps[5];
  FifthRow<V, S, kPart> fifth;

  AOQ_INLINE Window(const RowJob& job, int first) : fifth(job.weights + 256 + 64 * first) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const std::byte* sums = job.weights + 64 * (first + j);
      start.v[j] = V::times(V::of_channels(sums), -job.x_zero_point);
#pragma GCC unroll 5
      for (int kw = 0; kw < 5; ++kw) taps[kw].quad[j] = V::of_channels(sums + 256 * (1 + 2 * kw));
    }
#pragma GCC unroll 5
    for (int k = 0; k < kLive; ++k) live[k] = start;
  }

  // Column `c` of the columns of the pixel that is next.
  AOQ_INLINE void take(int c, const Column<V>& column) {
#pragma GCC unroll 5
    for (int k = 0; k < kLive; ++k) {
      if (c - k * S >= 0) add<V>(live[k], column.quad, taps[c - k * S].quad);
    }
    fifth.take(c, column.fifth);
  }

  AOQ_INLINE Sums<V, 2> sums() const {
    Sums<V, 2> result = live[0];
    fifth.add_to(result);
    return result;
  }

  AOQ_INLINE void advance() {
#pragma GCC unroll 5
    for (int k = 0; k < kLive; ++k) live[k] = k + 1 < kLive ? live[k + 1] : start;
  }
};

// The second part has the first one's results beside it.
template <typename V, DepthwiseEnd kEnd, Part kPart>
AOQ_INLINE void store_pixel(const RowJob& job, const PartEnd<V, 2>& end, std::int64_t pixel, const Sums<V, 2>& sums) {
  const typename V::Ints shorts = finish_pair<V, kEnd, 2>(end, 0, sums);
  std::byte* other = job.halves + pixel * 64;
  if constexpr (kPart == Part::low) return V::store(other, shorts);
  store_codes<V, kEnd, 2>(job, end, job.out + pixel * job.pitch, V::load(other), shorts);
}

template <typename V, int S, Part kPart, DepthwiseEnd kEnd>
AOQ_INLINE void convolve_part(const RowJob& job, const CopiedRows& copied, const BlockEnd& block_end) {
  constexpr int kFirst = kPart == Part::low ? 0 : 2;
  const PartEnd<V, 2> end = part_end<V, 2>(block_end, kFirst);
  Window<V, S, kPart> window(job, kFirst);
  const typename V::Ints padding = V::bytes(job.x_zero_point);
  const std::int64_t outside = V::kGroups == 1 ? -job.first : 0;  // columns on the left
#pragma GCC unroll 5
  for (int c = 0; c < 5 - S; ++c) {
    if (c < outside) {
      window.take(c, {{padding, padding}, padding});
    } else {
      window.take(c, column_of<V, kPart>(copied_column<V, 5>(copied, c)));
    }
  }
  for (std::int64_t pixel = 0; pixel < job.pixels; ++pixel) {
#pragma GCC unroll 2
    for (int c = 5 - S; c < 5; ++c) window.take(c, column_of<V, kPart>(copied_column<V, 5>(copied, pixel * S + c)));
    store_pixel<V, kEnd, kPart>(job, end, pixel, window.sums());
    window.advance();
  }
}

struct Kernel {
  template <typename V, int S, DepthwiseEnd kEnd>
  static void convolve_rows(const RowJob& block, const BlockEnd& end, const BlockRows& rows) {
    RowJob job = block;  // as stores of bytes could change what it refers to
    set_groups<V>(rows.dims, job);
    RowRing<V> ring(job, rows);
    for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
      job.out = rows.out + oy * job.row_pitch;
      const CopiedRows copied = ring.rows_of(oy, 1);
      convolve_part<V, S, Part::low, kEnd>(job, copied, end);
      convolve_part<V, S, Part::high, kEnd>(job, copied, end);
    }
  }
};

}  // namespace

void run_depthwise_5x5_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch) {
  run_kernel<Kernel>({plan, args, unit_begin, unit_end, scratch});
}

}  // namespace aoq::cpu
