// Depthwise 3x3 convolution of depthwise_vnni.h, two output rows at a time where their strides are the image's.
//
// A quad of taps meets each vector of codes with three dot products for 16 results. With stride 1 a quad is four image
// rows of one column, which two output rows share:
//   a1 b1 c1 d1          first row: taps w0 w1 w2 0, second: 0 w0 w1 w2, for each of three columns
// With stride 2 a pixel's new columns are 1 and 2, and column 0 is the last pixel's column 2. Two image rows of columns
// 1 and 2 are a quad, which the next pixel needs again for its column 0; the row that both output rows share is a quad
// of its columns -1 to 2:
//   a1 a2 b1 b2          first row: taps w01 w02 w11 w12, and of the quad before 0 w00 0 w10
//   c-1 c0 c1 c2         first row: 0 w20 w21 w22, second: 0 w00 w01 w02
//   d1 d2 e1 e2          second row: w11 w12 w21 w22, and of the quad before 0 w10 0 w20
#include <type_traits>

#include "backends/cpu/kernels/depthwise_vnni_avx512.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

// What prepare_taps writes for the rows of a block: the four vectors of sums to start at, then [2 rows][3 quads][4
// vectors] of taps.
static_assert(kDepthwise3x3TapBytes == 64 * (4 + 2 * 3 * 4));

constexpr int kNone = -1;
// By stride, row and quad the taps 3 * kh + kw of a quad.
constexpr int kTaps[2][2][3][4] = {
    {{{0, 3, 6, kNone}, {1, 4, 7, kNone}, {2, 5, 8, kNone}}, {{kNone, 0, 3, 6}, {kNone, 1, 4, 7}, {kNone, 2, 5, 8}}},
    {{{1, 2, 4, 5}, {kNone, 0, kNone, 3}, {kNone, 6, 7, 8}}, {{4, 5, 7, 8}, {kNone, 3, kNone, 6}, {kNone, 0, 1, 2}}}};

// Moves the bytes of kernel column `kw` to the places of a quad and clears the others.
constexpr std::uint32_t control_of(const int (&taps)[4], int kw) {
  std::uint32_t control = 0;
  for (int place = 0; place < 4; ++place) {
    const std::uint32_t from = taps[place] != kNone && taps[place] % 3 == kw ? taps[place] / 3 : 0x80;
    control |= from << (8 * place);
  }
  return control;
}

AOQ_INLINE __m512i moved_taps(__m512i column, std::uint32_t control) {
  const __m512i lanes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
  return _mm512_shuffle_epi8(column, _mm512_add_epi8(_mm512_set1_epi32(static_cast<int>(control)), lanes));
}

// Adds those of kernel column kColumn to a quad of taps.
template <int S, int kRow, int kQuad, int kColumn>
AOQ_INLINE __m512i with_taps(__m512i quad, __m512i column) {
  constexpr std::uint32_t kControl = control_of(kTaps[S - 1][kRow][kQuad], kColumn);
  if constexpr (kControl == 0x80808080) return quad;
  return Wide::either(quad, moved_taps(column, kControl));
}

template <int S, int kRow, int kQuad>
AOQ_INLINE void store_taps(const __m512i (&columns)[3], std::byte* to) {
  __m512i quad = with_taps<S, kRow, kQuad, 0>(_mm512_setzero_si512(), columns[0]);
  quad = with_taps<S, kRow, kQuad, 1>(quad, columns[1]);
  quad = with_taps<S, kRow, kQuad, 2>(quad, columns[2]);
  _mm512_store_si512(to + 256 * (1 + 3 * kRow + kQuad), quad);
}

// Writes job.taps for a block of channels.
template <typename Vectors, int S>
void prepare_taps(const RowJob& job) {
  for (int j = 0; j < 4; ++j) {
    const std::byte* weights = job.weights + 64 * j;
    std::byte* to = job.taps + 64 * j;
    _mm512_store_si512(to, Vectors::times(Vectors::of_channels(weights), -job.x_zero_point));
    const __m512i columns[3] = {Vectors::of_channels(weights + 256), Vectors::of_channels(weights + 512),
                                Vectors::of_channels(weights + 768)};
    store_taps<S, 0, 0>(columns, to);
    store_taps<S, 0, 1>(columns, to);
    store_taps<S, 0, 2>(columns, to);
    store_taps<S, 1, 0>(columns, to);
    store_taps<S, 1, 1>(columns, to);
    store_taps<S, 1, 2>(columns, to);
  }
}

template <typename V>
AOQ_INLINE Sums<V, 4> start_of(const RowJob& job) {
  Sums<V, 4> start;
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) start.v[j] = V::load(job.taps + 64 * j);
  return start;
}

template <typename V>
struct Quad {
  typename V::Ints v[4];
};

// Four vectors of quads from two pairs of vectors of bytes.
template <typename V>
AOQ_INLINE Quad<V> quad_of(const typename V::Ints (&a)[2], const typename V::Ints (&b)[2]) {
  return {{V::low16(a[0], b[0]), V::high16(a[0], b[0]), V::low16(a[1], b[1]), V::high16(a[1], b[1])}};
}

template <typename V>
AOQ_INLINE void add(Sums<V, 4>& sums, const Quad<V>& quad, const std::byte* taps) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) sums.v[j] = V::dot(sums.v[j], quad.v[j], V::load(taps + 64 * j));
}

AOQ_INLINE const std::byte* taps_of(const RowJob& job, int row, int quad) {
  return job.taps + 256 * (1 + 3 * row + quad);
}

// What R output rows of stride S keep from pixel to pixel.
template <typename V, int S, int R>
struct Window;

// The quads of three columns.
template <typename V, int R>
struct Window<V, 1, R> {
  static constexpr int kRows = R + 2;
  Sums<V, 4> start;
  Quad<V> quads[3];

  AOQ_INLINE Window(const RowJob& job, const Rows<V, kRows> (&first)[2]) : start(start_of<V>(job)) {
    take({first[0]});
    take({first[1]});
  }

  AOQ_INLINE void take(const Rows<V, kRows> (&columns)[1]) {
    const auto& row = columns[0].row;
    const typename V::Ints last = R == 2 ? row[kRows - 1] : V::zero();
    quads[0] = quads[1];
    quads[1] = quads[2];
    quads[2] = quad_of<V>({V::low8(row[0], row[1]), V::high8(row[0], row[1])},
                          {V::low8(row[2], last), V::high8(row[2], last)});
  }

  AOQ_INLINE Sums<V, 4> sums(const RowJob& job, int row, const Rows<V, kRows> (&)[1]) const {
    Sums<V, 4> sums = start;
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) add<V>(sums, quads[i], taps_of(job, row, i));
    return sums;
  }
};

// The sums of the next pixel so far, and of the image row that both output rows share the last two columns.
template <typename V, int R>
struct Window<V, 2, R> {
  static constexpr int kRows = 2 * R + 1;
  Sums<V, 4> start, begun[R];
  Quad<V> shared;
  typename V::Ints last[2];

  AOQ_INLINE Window(const RowJob& job, const Rows<V, kRows> (&first)[1])
      : start(start_of<V>(job)), last{V::zero(), V::zero()} {
    take({first[0], first[0]});
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      begun[r] = start;
      add<V>(begun[r], pair_of_rows(r, {first[0], first[0]}), taps_of(job, r, 1));
    }
  }

  AOQ_INLINE static Quad<V> pair_of_rows(int row, const Rows<V, kRows> (&columns)[2]) {
    const auto &first = columns[0].row, &second = columns[1].row;
    const int a = 3 * row, b = a + 1;
    return quad_of<V>({V::low8(first[a], second[a]), V::high8(first[a], second[a])},
                      {V::low8(first[b], second[b]), V::high8(first[b], second[b])});
  }

  AOQ_INLINE void take(const Rows<V, kRows> (&columns)[2]) {
    const typename V::Ints first = columns[0].row[2], second = columns[1].row[2];
    const typename V::Ints next[2] = {V::low8(first, second), V::high8(first, second)};
    shared = quad_of<V>(last, next);
    last[0] = next[0];
    last[1] = next[1];
  }

  AOQ_INLINE Sums<V, 4> sums(const RowJob& job, int row, const Rows<V, kRows> (&columns)[2]) {
    const Quad<V> pair = pair_of_rows(row, columns);
    Sums<V, 4> sums = begun[row];
    add<V>(sums, pair, taps_of(job, row, 0));
    add<V>(sums, shared, taps_of(job, row, 2));
    begun[row] = start;
    add<V>(begun[row], pair, taps_of(job, row, 1));
    return sums;
  }
};

// The pixel whose last S columns are given.
template <typename V, int S, int R, DepthwiseEnd kEnd>
AOQ_INLINE void convolve_pixel(const RowJob& job, const PartEnd<V, 4>& end, Window<V, S, R>& window,
                               const Rows<V, Window<V, S, R>::kRows> (&columns)[S], std::uint8_t* out) {
  window.take(columns);
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
    const Sums<V, 4> sums = window.sums(job, r, columns);
    const typename V::Ints low = finish_pair<V, kEnd, 4>(end, 0, sums), high = finish_pair<V, kEnd, 4>(end, 2, sums);
    store_codes<V, kEnd, 4>(job, end, out + r * job.row_pitch, low, high);
  }
}

template <typename V, int S, int R, DepthwiseEnd kEnd>
AOQ_INLINE void convolve_row(const RowJob& job, const PartEnd<V, 4>& end) {
  constexpr int kRows = Window<V, S, R>::kRows;
  Rows<V, kRows> columns[S], first[3 - S];
#pragma GCC unroll 2
  for (int c = 0; c < 3 - S; ++c) first[c] = load_column<V, kRows>(job, c);
  Window<V, S, R> window(job, first);
  std::uint8_t* out = job.out;
  for (std::int64_t pixel = 0; pixel < job.pixels; ++pixel, out += job.pitch) {
    const std::int64_t next = pixel * S + 3 - S;
    std::int64_t inside = 0;  // pixels from here whose columns are all inside the image
    if (is_inside(job, next)) inside = min_of(job.pixels - pixel, (job.width - job.first - next) / S);
    Reader<V, kRows> reader(job, next);
    for (; inside > 0; --inside, ++pixel, out += job.pitch) {
#pragma GCC unroll 2
      for (int s = 0; s < S; ++s) columns[s] = reader.next(job);
      convolve_pixel<V, S, R, kEnd>(job, end, window, columns, out);
    }
    if (pixel == job.pixels) return;
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) columns[s] = load_column<V, kRows>(job, pixel * S + 3 - S + s);
    convolve_pixel<V, S, R, kEnd>(job, end, window, columns, out);
  }
}

template <typename V, int S, int R, DepthwiseEnd kEnd>
AOQ_INLINE void convolve_copied_row(const RowJob& job, const PartEnd<V, 4>& end, const CopiedRows& copied) {
  constexpr int kRows = Window<V, S, R>::kRows;
  Rows<V, kRows> columns[S], first[3 - S];
#pragma GCC unroll 2
  for (int c = 0; c < 3 - S; ++c) first[c] = copied_column<V, kRows>(copied, c);
  Window<V, S, R> window(job, first);
  std::uint8_t* out = job.out;
  for (std::int64_t pixel = 0; pixel < job.pixels; ++pixel, out += job.pitch) {
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) columns[s] = copied_column<V, kRows>(copied, pixel * S + 3 - S + s);
    convolve_pixel<V, S, R, kEnd>(job, end, window, columns, out);
  }
}

// R output rows from `oy`. Few channels share vectors with those of other pixels, beside which they are copied.
template <typename V, int S, int R, DepthwiseEnd kEnd>
AOQ_INLINE void convolve_rows_at(const BlockRows& rows, std::int64_t oy, RowJob& job, const PartEnd<V, 4>& end,
                                 RowRing<V>& ring) {
  if constexpr (V::kGroups == 1) {
    set_rows(rows, oy, R, job);
    convolve_row<V, S, R, kEnd>(job, end);
  } else {
    job.out = rows.out + oy * job.row_pitch;
    convolve_copied_row<V, S, R, kEnd>(job, end, ring.rows_of(oy, R));
  }
}

struct Kernel {
  template <typename V, int S, DepthwiseEnd kEnd>
  static void convolve_rows(const RowJob& block, const BlockEnd& block_end, const BlockRows& rows) {
    RowJob job = block;  // as stores of bytes could change what it refers to
    const PartEnd<V, 4> end = part_end<V, 4>(block_end, 0);
    prepare_taps<std::conditional_t<V::kGroups == 1, Wide, V>, S>(job);
    set_groups<V>(rows.dims, job);
    RowRing<V> ring(job, rows);
    std::int64_t oy = rows.begin;
    for (; rows.dims.stride_h == S && oy + 2 <= rows.end; oy += 2) {
      convolve_rows_at<V, S, 2, kEnd>(rows, oy, job, end, ring);
    }
    for (; oy < rows.end; ++oy) convolve_rows_at<V, S, 1, kEnd>(rows, oy, job, end, ring);
  }
};

}  // namespace

void run_depthwise_3x3_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch) {
  run_kernel<Kernel>({plan, args, unit_begin, unit_end, scratch});
}

}  // namespace aoq::cpu
