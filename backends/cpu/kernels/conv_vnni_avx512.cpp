// The tiles of conv_vnni.h. A row's four codes are broadcast, a vector of weights holds four codes of 16 channels.
//
// Codes are the end of small tiles, eight sums each: the last tile's sums are rounded and stored between the first
// steps of the next. Floats, curved activations and very deep panels take large ones, up to 14 pixels times 32 output
// channels, where 28 of the 32 registers hold sums. Few rows add their steps to several sums in turn, because one sum
// would wait for itself.
#include <utility>

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/tile_end_avx512.h"

namespace aoq::cpu {
namespace {

constexpr int kTileRows = kVnniTileRows;
static_assert(kTileRows <= kEndRows);

struct PanelTile {
  const std::uint8_t* rows;
  std::int64_t pitch;
  const std::byte* panels;  // one or two
  std::int64_t panel_bytes;
  std::int64_t steps;
  std::int32_t zero_point;  // of codes as u8
  // What lies behind the panels, which is mostly what is read next, is fetched meanwhile: two lines every four steps.
  const std::byte* ahead;
};

// What the sums of C panels start at.
template <int C>
AOQ_INLINE void start_of(const PanelTile& t, __m512i (&start)[C]) {
  const __m512i zero_point = _mm512_set1_epi32(-t.zero_point);
#pragma GCC unroll 2
  for (int c = 0; c < C; ++c) {
    start[c] = _mm512_mullo_epi32(_mm512_loadu_si512(t.panels + c * t.panel_bytes), zero_point);
  }
}

// Adds four products to each sum; to those of the first eight columns only where the panel has no more.
template <bool kIsHalf>
AOQ_INLINE __m512i added(__m512i sum, __m512i x, const std::byte* weights) {
  if constexpr (kIsHalf) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
    return _mm512_castsi256_si512(_mm256_dpbusd_epi32(_mm512_castsi512_si256(sum), _mm512_castsi512_si256(x), w));
  } else {
    return _mm512_dpbusd_epi32(sum, x, _mm512_loadu_si512(weights));
  }
}

// Rows in groups of three, which addressing reaches from one pointer. The last panel may be half a panel.
template <int R, int C, bool kIsHalf = false>
AOQ_INLINE void add_step(const std::uint8_t* const (&rows)[(R + 2) / 3], std::int64_t pitch, std::int64_t at,
                         const std::byte* weights, std::int64_t panel_bytes, __m512i (&sum)[R][C]) {
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
    const __m512i x = _mm512_set1_epi32(*reinterpret_cast<const AnyInt32*>(rows[r / 3] + r % 3 * pitch + at));
    if constexpr (C == 2) {
      sum[r][0] = added<false>(sum[r][0], x, weights);
      asm volatile("" : "+v"(sum[r][0]));
      sum[r][1] = added<kIsHalf>(sum[r][1], x, weights + panel_bytes);
      asm volatile("" : "+v"(sum[r][1]));
    } else {
      sum[r][0] = added<kIsHalf>(sum[r][0], x, weights);
      asm volatile("" : "+v"(sum[r][0]));
    }
  }
}

template <int R, int C>
AOQ_INLINE void multiply(const PanelTile& t, const __m512i (&start)[C], __m512i (&sum)[R][C]) {
  constexpr int kTurns = R == 1 ? 4 : R == 2 ? 2 : 1;
  constexpr int kGroups = (R + 2) / 3;
  __m512i turn[kTurns][R][C];
#pragma GCC unroll 4
  for (int i = 0; i < kTurns; ++i) {
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) turn[i][r][c] = i == 0 ? start[c] : _mm512_setzero_si512();
    }
  }
  const std::uint8_t* rows[kGroups];
#pragma GCC unroll 5
  for (int g = 0; g < kGroups; ++g) rows[g] = t.rows + 3 * g * t.pitch;
  const std::byte* weights = t.panels + 64;
  const std::byte* ahead = t.ahead;
  std::int64_t left = t.steps;
  for (; left >= 4; left -= 4) {
    _mm_prefetch(ahead, _MM_HINT_T1);
    _mm_prefetch(ahead + 64, _MM_HINT_T1);
    ahead += 128;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      add_step<R, C>(rows, t.pitch, 4 * i, weights + 64 * i, t.panel_bytes, turn[i % kTurns]);
    }
    weights += 256;
#pragma GCC unroll 5
    for (int g = 0; g < kGroups; ++g) rows[g] += 16;
  }
#pragma GCC unroll 1
  for (; left > 0; --left) {
    add_step<R, C>(rows, t.pitch, 0, weights, t.panel_bytes, turn[0]);
    weights += 64;
#pragma GCC unroll 5
    for (int g = 0; g < kGroups; ++g) rows[g] += 4;
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
      sum[r][c] = turn[0][r][c];
#pragma GCC unroll 4
      for (int i = 1; i < kTurns; ++i) sum[r][c] = _mm512_add_epi32(sum[r][c], turn[i][r][c]);
    }
  }
}

// Two rows of two panels at a time. What `e` says is read before anything is stored, as stores of bytes could change
// it.
template <int R, bool kResidual>
AOQ_INLINE void store_codes(const TileEnd& e, const __m512i (&sum)[R][2]) {
  const Codes to = codes_of(e);
  const Scale first = scale_of(e, 0), last = scale_of(e, 1);
  const std::int64_t pitch = e.pitch;
  const __mmask32 mask = e.mask;
  std::uint8_t* out = e.out;
  const std::uint8_t* residual = e.residual;
#pragma GCC unroll 7
  for (int r = 0; r < R; r += 2) {
    constexpr int kLast = R - 1;
    const int second = r < kLast ? r + 1 : r;
    const std::int64_t next = r < kLast ? pitch : 0;
    const __m512i codes = packed_codes(to, rounded<kResidual>(e, first, sum[r][0], 0, residual, 0),
                                       rounded<kResidual>(e, last, sum[r][1], 1, residual, 0),
                                       rounded<kResidual>(e, first, sum[second][0], 0, residual, next),
                                       rounded<kResidual>(e, last, sum[second][1], 1, residual, next));
    _mm256_mask_storeu_epi8(out, mask, _mm512_castsi512_si256(codes));
    if (r < kLast) _mm256_mask_storeu_epi8(out + pitch, mask, _mm512_extracti64x4_epi64(codes, 1));
    out += 2 * pitch;
    if constexpr (kResidual) residual += 2 * pitch;
  }
}

// Four rows of one panel at a time.
template <int R, bool kResidual>
AOQ_INLINE void store_codes(const TileEnd& e, const __m512i (&sum)[R][1]) {
  const Codes to = codes_of(e);
  const Scale scale = scale_of(e, 0);
  const std::int64_t pitch = e.pitch;
  const auto mask = static_cast<__mmask16>(e.mask);
  std::uint8_t* out = e.out;
  const std::uint8_t* residual = e.residual;
#pragma GCC unroll 4
  for (int r = 0; r < R; r += 4) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int row = r + i < R ? r + i : R - 1;
      v[i] = rounded<kResidual>(e, scale, sum[row][0], 0, residual, (row - r) * pitch);
    }
    const __m512i codes = packed_codes(to, v[0], v[1], v[2], v[3]);
    _mm_mask_storeu_epi8(out, mask, _mm512_castsi512_si128(codes));
    if (r + 1 < R) _mm_mask_storeu_epi8(out + pitch, mask, _mm512_extracti32x4_epi32(codes, 1));
    if (r + 2 < R) _mm_mask_storeu_epi8(out + 2 * pitch, mask, _mm512_extracti32x4_epi32(codes, 2));
    if (r + 3 < R) _mm_mask_storeu_epi8(out + 3 * pitch, mask, _mm512_extracti32x4_epi32(codes, 3));
    out += 4 * pitch;
    if constexpr (kResidual) residual += 4 * pitch;
  }
}

template <int R, int C, bool kResidual>
AOQ_INLINE void store_floats(const TileEnd& e, const __m512i (&sum)[R][C]) {
  auto* out = reinterpret_cast<float*>(e.out);
  const auto* residual = reinterpret_cast<const float*>(e.residual);
  const __m512 x_scale = _mm512_set1_ps(e.x_scale);
#pragma GCC unroll 2
  for (int c = 0; c < C; ++c) {
    const __m512 multiplier = _mm512_mul_ps(x_scale, _mm512_loadu_ps(e.multiplier + 16 * c));
    const __m512 bias = _mm512_loadu_ps(e.bias + 16 * c);
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][c]), multiplier), bias);
      const std::int64_t at = r * e.pitch + 16 * c;
      if constexpr (kResidual) {
        y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(static_cast<__mmask16>(e.mask >> (16 * c)), residual + at));
      }
      _mm512_mask_storeu_ps(out + at, static_cast<__mmask16>(e.mask >> (16 * c)), y);
    }
  }
}

template <int R, int C, End kEnd>
void run_tile(const PanelTile& t, const TileEnd& e) {
  __m512i start[C], sum[R][C];
  start_of<C>(t, start);
  multiply<R, C>(t, start, sum);
  if constexpr (kEnd == End::floats) {
    if (e.residual != nullptr) {
      store_floats<R, C, true>(e, sum);
    } else {
      store_floats<R, C, false>(e, sum);
    }
  } else if constexpr (kEnd == End::codes || kEnd == End::codes_with_residual) {
    store_codes<R, kEnd == End::codes_with_residual>(e, sum);
  } else {
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) _mm512_storeu_si512(e.sums + (c * kEndRows + r) * 16, sum[r][c]);
    }
  }
}

// Small tiles, of eight sums, follow each other: the end of one is computed between the first steps of the next,
// as products and roundings have units of their own. Panels of more steps are left to large tiles, which read them less
// often.
constexpr std::int64_t kMostSmallSteps = 512;
// Steps that an end is spread over, and so the fewest that it needs: a residual is much to compute.
template <End kEnd>
constexpr int kParts = kEnd == End::codes_with_residual ? 8 : 4;
template <int C>
constexpr int kSmallRows = 8 / C;

// Stores 64 codes, those of four vectors of sums: two rows of two panels, or four of one.
template <int C>
AOQ_INLINE void store_rows(std::uint8_t* out, std::int64_t pitch, __mmask32 mask, __m512i codes) {
  if constexpr (C == 2) {
    _mm256_mask_storeu_epi8(out, mask, _mm512_castsi512_si256(codes));
    _mm256_mask_storeu_epi8(out + pitch, mask, _mm512_extracti64x4_epi64(codes, 1));
  } else {
    const auto columns = static_cast<__mmask16>(mask);
    _mm_mask_storeu_epi8(out, columns, _mm512_castsi512_si128(codes));
    _mm_mask_storeu_epi8(out + pitch, columns, _mm512_extracti32x4_epi32(codes, 1));
    _mm_mask_storeu_epi8(out + 2 * pitch, columns, _mm512_extracti32x4_epi32(codes, 2));
    _mm_mask_storeu_epi8(out + 3 * pitch, columns, _mm512_extracti32x4_epi32(codes, 3));
  }
}

// The end of a small tile, in parts of one or two vectors of sums each.
template <int C, End kEnd>
struct SmallEnd {
  static constexpr bool kResidual = kEnd == End::codes_with_residual;
  const TileEnd& e;
  Codes to;
  Scale scale[C];
  std::int64_t pitch;
  __mmask32 mask;
  std::uint8_t* out;
  const std::uint8_t* residual;
  __m512i rounded_sums[4];

  AOQ_INLINE explicit SmallEnd(const TileEnd& end)
      : e(end), to(codes_of(end)), pitch(end.pitch), mask(end.mask), out(end.out), residual(end.residual) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) scale[c] = scale_of(end, c);
  }

  AOQ_INLINE void finish_part(int part, const __m512i (&sum)[kSmallRows<C>][C]) {
    constexpr int kVectors = 8 / kParts<kEnd>;
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; ++i) {
      const int index = part * kVectors + i, vector = index % 4, row = index / C, c = index % C;
      const std::int64_t at = vector / C * pitch;
      if constexpr (kEnd == End::codes_of_hardswish) {
        rounded_sums[vector] = rounded_hardswish(scale[c], sum[row][c], _mm512_set1_ps(e.inv_out));
      } else {
        rounded_sums[vector] = rounded<kResidual>(e, scale[c], sum[row][c], c, residual, at);
      }
    }
    if ((part + 1) * kVectors % 4 != 0) return;
    store_rows<C>(out, pitch, mask,
                  packed_codes(to, rounded_sums[0], rounded_sums[1], rounded_sums[2], rounded_sums[3]));
    out += 4 / C * pitch;
    if constexpr (kResidual) residual += 4 / C * pitch;
  }
};

// Needs as many steps as the end has parts.
template <int C, End kEnd, bool kIsHalf>
void run_small_tiles(const PanelTile& t, const TileEnd& tile_end, std::int64_t tiles) {
  constexpr int kRows = kSmallRows<C>, kGroups = (kRows + 2) / 3, kEndSteps = kParts<kEnd>;
  const std::int64_t pitch = t.pitch, panel_bytes = t.panel_bytes, steps = t.steps;
  const std::byte* const panels = t.panels + 64;
  const std::byte *ahead = t.ahead, *const ahead_end = ahead + C * panel_bytes;
  const TileEnd e = tile_end;
  SmallEnd<C, kEnd> end(e);
  __m512i start[C], last[kRows][C];
  start_of<C>(t, start);
  const std::uint8_t* tile_rows = t.rows;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::uint8_t* rows[kGroups];
#pragma GCC unroll 3
    for (int g = 0; g < kGroups; ++g) rows[g] = tile_rows + 3 * g * pitch;
    __m512i sum[kRows][C];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) sum[r][c] = start[c];
    }
    if (tile == 0) {
#pragma GCC unroll 8
      for (int i = 0; i < kEndSteps; ++i) {
        add_step<kRows, C, kIsHalf>(rows, pitch, 4 * i, panels + 64 * i, panel_bytes, sum);
      }
    } else {
#pragma GCC unroll 8
      for (int i = 0; i < kEndSteps; ++i) {
        add_step<kRows, C, kIsHalf>(rows, pitch, 4 * i, panels + 64 * i, panel_bytes, sum);
        end.finish_part(i, last);
      }
    }
    const std::byte* weights = panels + 64 * kEndSteps;
    for (std::int64_t step = kEndSteps; step < steps; ++step) {
#pragma GCC unroll 3
      for (int g = 0; g < kGroups; ++g) rows[g] += 4;
      _mm_prefetch(ahead, _MM_HINT_T1);
      ahead += 64;
      add_step<kRows, C, kIsHalf>(rows, pitch, 4 * (kEndSteps - 1), weights, panel_bytes, sum);
      weights += 64;
    }
    if (ahead >= ahead_end) ahead = t.panels;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) last[r][c] = sum[r][c];
    }
    tile_rows += kRows * pitch;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kEndSteps; ++i) end.finish_part(i, last);
}

using RunSmallTiles = void (*)(const PanelTile&, const TileEnd&, std::int64_t);

// Null for ends that small tiles do not have.
template <int C, bool kIsHalf>
RunSmallTiles small_tiles_of(End end) {
  switch (end) {
    case End::codes:
      return run_small_tiles<C, End::codes, kIsHalf>;
    case End::codes_with_residual:
      return run_small_tiles<C, End::codes_with_residual, kIsHalf>;
    case End::codes_of_hardswish:
      return run_small_tiles<C, End::codes_of_hardswish, false>;
    case End::floats:
    case End::sums:
      break;
  }
  return nullptr;
}

RunSmallTiles small_tiles_of(End end, std::int64_t columns) {
  const bool is_half = (columns - 1) % 16 < 8;
  if (columns > 16) return is_half ? small_tiles_of<2, true>(end) : small_tiles_of<2, false>(end);
  return is_half ? small_tiles_of<1, true>(end) : small_tiles_of<1, false>(end);
}

using RunTile = void (*)(const PanelTile&, const TileEnd&);

// Codes are mostly stored by small tiles; tiles of their own have the rows that those leave.
template <int C>
constexpr int most_rows(End end) {
  return end == End::floats || end == End::sums ? kTileRows : kSmallRows<C> - 1;
}

template <int C, End kEnd, int... kIndex>
RunTile tile_among(std::int64_t rows, std::integer_sequence<int, kIndex...>) {
  constexpr RunTile kTiles[] = {run_tile<kIndex + 1, C, kEnd>...};
  return kTiles[rows - 1];
}

template <int C, End kEnd>
RunTile tile_of(std::int64_t rows) {
  return tile_among<C, kEnd>(rows, std::make_integer_sequence<int, most_rows<C>(kEnd)>{});
}

template <int C>
RunTile tile_of(End end, std::int64_t rows) {
  switch (end) {
    case End::codes:
      return tile_of<C, End::codes>(rows);
    case End::codes_with_residual:
      return tile_of<C, End::codes_with_residual>(rows);
    case End::floats:
      return tile_of<C, End::floats>(rows);
    case End::codes_of_hardswish:
    case End::sums:
      break;
  }
  return tile_of<C, End::sums>(rows);
}

// Codes of x as u8, gathered row by row.
struct Gather {
  const std::uint8_t* x;
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

// Short runs are one vector each, of which the next run overwrites what is too much, and the last one is the tail.
void gather_runs_to_13(const InnerPixels& from, const Gather& g) {
  const InnerPixels p = from;
  const auto mask = static_cast<__mmask16>(0xffffu >> (16 - p.run));
  const __m128i flip = _mm512_castsi512_si128(g.flip);
  for (std::int64_t i = 0; i < p.pixels; ++i) {
    const std::uint8_t* in = p.in + i * p.step;
    std::uint8_t* out = p.out + i * p.pitch;
    for (std::int64_t row = 0; row < p.kernel_rows; ++row, in += p.row_step, out += p.run) {
      const __m128i v = _mm_xor_si128(_mm_maskz_loadu_epi8(mask, in), flip);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
    }
  }
}

void gather_runs_to_29(const InnerPixels& from, const Gather& g) {
  const InnerPixels p = from;
  const __mmask32 mask = ~std::uint32_t{0} >> (32 - p.run);
  const __m256i flip = _mm512_castsi512_si256(g.flip);
  for (std::int64_t i = 0; i < p.pixels; ++i) {
    const std::uint8_t* in = p.in + i * p.step;
    std::uint8_t* out = p.out + i * p.pitch;
    for (std::int64_t row = 0; row < p.kernel_rows; ++row, in += p.row_step, out += p.run) {
      const __m256i v = _mm256_xor_si256(_mm256_maskz_loadu_epi8(mask, in), flip);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), v);
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
  if (p.run > 13) return gather_runs_to_29(p, g);
  gather_runs_to_13(p, g);
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

void gather_rows(const ConvPanelsPlan& plan, const Gather& g, std::int64_t group, std::int64_t row_begin,
                 std::int64_t row_end, std::uint8_t* out) {
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
      gather_inner_pixels({.in = g.x + ((image * d.in_h + iy) * d.in_w + ix) * d.in_c,
                           .pixels = pixels,
                           .step = d.stride_w * d.in_c,
                           .kernel_rows = d.kernel_h,
                           .row_step = d.dilation_h * d.in_w * d.in_c,
                           .run = d.kernel_w * d.in_c,
                           .has_tail = plan.k % 4 != 0,
                           .out = out,
                           .pitch = plan.pitch},
                          g);
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

// One or two panels, and the place in a block of rows where their tiles have come to.
struct PanelRun {
  PanelTile tile;
  TileEnd end;
  End kind;
  int panels;
  std::int64_t columns;
  std::int64_t first;  // column of the output
  std::int64_t row, row_end;
};

PanelRun panel_run(const ConvPanelsPlan& plan, const ConvS8Args& args, const ConvUnit& block, const std::uint8_t* rows,
                   std::int64_t panel) {
  const std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  const std::int64_t columns = min_of(group_out - panel * 16, 32);
  const std::int64_t panel_index = block.group * plan.panels + panel;
  const std::byte* panels = args.weights + panel_index * plan.panel_bytes;
  PanelRun run;
  run.tile = {.rows = rows,
              .pitch = plan.pitch,
              .panels = panels,
              .panel_bytes = plan.panel_bytes,
              .steps = plan.steps,
              .zero_point = args.x_zero_point + (plan.x_type == DType::i8 ? 128 : 0),
              .ahead = panels + 2 * plan.panel_bytes};
  run.end = tile_end(plan.epilogue, args.epilogue, panel_index * 16, columns);
  run.end.pitch = plan.dims.out_c;
  run.panels = columns > 16 ? 2 : 1;
  run.columns = columns;
  run.kind = end_of(plan.epilogue, run.end, plan.k, run.panels);
  run.first = block.group * group_out + panel * 16;
  run.row = block.row_begin;
  run.row_end = block.row_end;
  return run;
}

// Points the end of a tile at the row that is next.
void set_output(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  const std::int64_t element = plan.epilogue.out_type == DType::f32 ? 4 : 1;
  const std::int64_t at = (run.row * plan.dims.out_c + run.first) * element;
  run.end.out = static_cast<std::uint8_t*>(args.epilogue.out) + at;
  const auto* residual = static_cast<const std::uint8_t*>(args.epilogue.residual);
  run.end.residual = plan.epilogue.has_residual ? residual + at : nullptr;
}

void multiply_small_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  const RunSmallTiles run_small = small_tiles_of(run.kind, run.columns);
  const std::int64_t rows = 8 / run.panels, tiles = (run.row_end - run.row) / rows;
  const std::int64_t least =
      run.kind == End::codes_with_residual ? kParts<End::codes_with_residual> : kParts<End::codes>;
  if (run_small == nullptr || run.tile.steps < least || run.tile.steps > kMostSmallSteps || tiles == 0) {
    return;
  }
  set_output(plan, args, run);
  run_small(run.tile, run.end, tiles);
  run.tile.rows += tiles * rows * plan.pitch;
  run.row += tiles * rows;
}

// Tiles of nearly the same height.
void multiply_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  alignas(64) std::int32_t sums[2 * kEndRows * 16];
  run.end.sums = sums;
  const std::int64_t left = run.row_end - run.row;
  const bool is_few = left < 8 / run.panels;
  const bool is_here = run.kind == End::floats || (is_few && run.kind != End::codes_of_hardswish);
  const End kind = is_here ? run.kind : End::sums;
  const std::byte* ahead_end = run.tile.ahead + 2 * plan.panel_bytes;
  std::int64_t tiles = (left + kTileRows - 1) / kTileRows;
  for (; run.row < run.row_end; --tiles) {
    const std::int64_t count = (run.row_end - run.row + tiles - 1) / tiles;
    set_output(plan, args, run);
    (run.panels == 2 ? tile_of<2>(kind, count) : tile_of<1>(kind, count))(run.tile, run.end);
    if (kind == End::sums) finish_sums(plan.epilogue, run.end, run.kind, count, run.panels);
    run.tile.rows += count * plan.pitch;
    const std::byte* ahead = run.tile.ahead + run.tile.steps / 4 * 128;
    run.tile.ahead = ahead < ahead_end ? ahead : run.tile.panels;
    run.row += count;
  }
}

}  // namespace

void run_conv_avx512_vnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                          std::int64_t unit_end, std::byte* scratch) {
  auto* gathered = reinterpret_cast<std::uint8_t*>(scratch);
  const std::int32_t shift = plan.x_type == DType::i8 ? 128 : 0;
  const Gather gather = {.x = static_cast<const std::uint8_t*>(args.x),
                         .flip = _mm512_set1_epi8(static_cast<char>(shift)),
                         .fill = _mm512_set1_epi8(static_cast<char>(args.x_zero_point + shift))};
  std::int64_t held = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit block = unit_at(plan, unit);
    const std::uint8_t* rows = plan.reads_in_place ? gather.x + block.row_begin * plan.pitch : gathered;
    // Units that follow each other share their rows when only the panels differ.
    if (!plan.reads_in_place && held != block.row_unit) {
      gather_rows(plan, gather, block.group, block.row_begin, block.row_end, gathered);
      held = block.row_unit;
    }
    for (std::int64_t panel = block.panel_begin; panel < block.panel_end; panel += 2) {
      PanelRun run = panel_run(plan, args, block, rows, panel);
      multiply_small_tiles(plan, args, run);
      multiply_tiles(plan, args, run);
    }
  }
}

}  // namespace aoq::cpu
