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
#include "backends/cpu/kernels/depthwise_vnni_avx512.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

// What begin_block writes for the rows of a block: the four vectors of sums to start at, then [2 rows][3 quads][4
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

template <int S>
void begin_block(const RowJob& job) {
  for (int j = 0; j < 4; ++j) {
    const std::byte* weights = job.weights + 64 * j;
    __m512i* to = reinterpret_cast<__m512i*>(job.taps + 64 * j);
    _mm512_store_si512(to, Wide::times(Wide::load(weights), -job.x_zero_point));
    const __m512i column[3] = {Wide::load(weights + 256), Wide::load(weights + 512), Wide::load(weights + 768)};
#pragma GCC unroll 2
    for (int row = 0; row < 2; ++row) {
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        const auto& taps = kTaps[S - 1][row][i];
        __m512i quad = moved_taps(column[0], control_of(taps, 0));
        quad = Wide::either(quad, moved_taps(column[1], control_of(taps, 1)));
        quad = Wide::either(quad, moved_taps(column[2], control_of(taps, 2)));
        _mm512_store_si512(to + 4 * (1 + 3 * row + i), quad);
      }
    }
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

  AOQ_INLINE explicit Window(const RowJob& job) : start(start_of<V>(job)) {
    take({load_column<V, kRows>(job, 0)});
    take({load_column<V, kRows>(job, 1)});
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

  AOQ_INLINE explicit Window(const RowJob& job) : start(start_of<V>(job)), last{V::zero(), V::zero()} {
    const Rows<V, kRows> column = load_column<V, kRows>(job, 0);
    take({column, column});
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      begun[r] = start;
      add<V>(begun[r], pair_of_rows(r, {column, column}), taps_of(job, r, 1));
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
void convolve_rows(const RowJob& rows, const BlockEnd& block_end) {
  constexpr int kRows = Window<V, S, R>::kRows;
  const RowJob job = rows;  // as stores of bytes could change what it refers to
  const PartEnd<V, 4> end = part_end<V, 4>(block_end, 0);
  Window<V, S, R> window(job);
  Rows<V, kRows> columns[S];
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

// For one or two output rows.
template <typename V, DepthwiseEnd kEnd>
ConvolveRows rows_of(std::int64_t stride, std::int64_t rows) {
  if (stride == 1) return rows == 2 ? convolve_rows<V, 1, 2, kEnd> : convolve_rows<V, 1, 1, kEnd>;
  return rows == 2 ? convolve_rows<V, 2, 2, kEnd> : convolve_rows<V, 2, 1, kEnd>;
}

template <DepthwiseEnd kEnd>
ConvolveRows rows_of(std::int64_t stride, std::int64_t rows, std::int64_t channels) {
  if (channels <= Narrow::kChannels) return rows_of<Narrow, kEnd>(stride, rows);
  return channels < 64 ? rows_of<Wide, kEnd>(stride, rows) : rows_of<Whole, kEnd>(stride, rows);
}

void convolve(const RowJob& job, const BlockEnd& end, std::int64_t stride, std::int64_t rows) {
  if (end.kind == DepthwiseEnd::hardswish) {
    return rows_of<DepthwiseEnd::hardswish>(stride, rows, job.channels)(job, end);
  }
  if (end.kind == DepthwiseEnd::codes) return rows_of<DepthwiseEnd::codes>(stride, rows, job.channels)(job, end);
  rows_of<DepthwiseEnd::plain_codes>(stride, rows, job.channels)(job, end);
}

}  // namespace

void run_depthwise_3x3_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch) {
  const std::int64_t stride = plan.dims.stride_w;
  run_units({plan, args, unit_begin, unit_end, scratch}, plan.rows_together,
            stride == 1 ? begin_block<1> : begin_block<2>,
            [&](const RowJob& job, const BlockEnd& end, std::int64_t rows) { convolve(job, end, stride, rows); });
}

}  // namespace aoq::cpu
