// The tiles of conv_vnni.h. A row's four codes are broadcast, a vector of weights holds four codes of 16 channels.
//
// Codes are the end of small tiles, eight sums each: the last tile's sums are rounded and stored between the first
// steps of the next. Floats, curved activations and very deep panels take large ones, up to 14 pixels times 32 output
// channels, where 28 of the 32 registers hold sums. Few rows add their steps to several sums in turn, because one sum
// would wait for itself.
//
// In an unnamed namespace, as the translation units of one instruction set include it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_gather_avx512.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/simd_avx512.h"
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
  // Pixels of later tiles, as many as are multiplied, of which tiles that gather do so meanwhile.
  InnerPixels* later = nullptr;
  const ThreeRunPlaces* places = nullptr;
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

// Rows in groups of three, which addressing reaches from one pointer. The last panel may be half a panel. Few rows go
// through one panel after the other: halves of panels take half of a multiplier's turn, and one multiplier would get
// them all where they alternate with whole ones.
template <int R, int C, bool kIsHalf = false>
AOQ_INLINE void add_step(const std::uint8_t* const (&rows)[(R + 2) / 3], std::int64_t pitch, std::int64_t at,
                         const std::byte* weights, std::int64_t panel_bytes, __m512i (&sum)[R][C]) {
  constexpr int kTogether = R * C <= 8 ? R : 1;
#pragma GCC unroll 14
  for (int first = 0; first < R; first += kTogether) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
      for (int r = first; r < first + kTogether; ++r) {
        const __m512i x = _mm512_set1_epi32(*reinterpret_cast<const AnyInt32*>(rows[r / 3] + r % 3 * pitch + at));
        if (c == C - 1) {
          sum[r][c] = added<kIsHalf>(sum[r][c], x, weights + c * panel_bytes);
        } else {
          sum[r][c] = added<false>(sum[r][c], x, weights + c * panel_bytes);
        }
        asm volatile("" : "+v"(sum[r][c]));
      }
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
// as products and roundings have units of their own. Panels of more than kVnniSmallSteps are left to large tiles, which
// read them less often.

// Steps that an end is spread over, and so the fewest that it needs: a residual is much to compute.
template <End kEnd>
constexpr int kParts = kEnd == End::codes_with_residual ? 8 : 4;
template <int C>
constexpr int kSmallRows = kVnniSmallTileRows / C;

// Stores 64 codes, those of four vectors of sums: two rows of two panels, or four of one. Units that shuffle multiply
// too, hence the second of two plain rows is not extracted but masked, where it lies.
template <int C, Range kRange>
AOQ_INLINE void store_rows(std::uint8_t* out, std::int64_t pitch, __mmask32 mask, __m512i codes) {
  if constexpr (C == 2 && kRange != Range::any) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(codes));
    _mm512_mask_storeu_epi8(out + pitch - 32, ~__mmask64{0} << 32, codes);
  } else if constexpr (C == 2) {
    _mm256_mask_storeu_epi8(out, mask, _mm512_castsi512_si256(codes));
    _mm256_mask_storeu_epi8(out + pitch, mask, _mm512_extracti64x4_epi64(codes, 1));
  } else {
    const auto columns = static_cast<__mmask16>(mask);
    if (pitch == 16 && columns == 0xffff) {
      _mm512_storeu_si512(out, codes);
      return;
    }
    _mm_mask_storeu_epi8(out, columns, _mm512_castsi512_si128(codes));
    _mm_mask_storeu_epi8(out + pitch, columns, _mm512_extracti32x4_epi32(codes, 1));
    _mm_mask_storeu_epi8(out + 2 * pitch, columns, _mm512_extracti32x4_epi32(codes, 2));
    _mm_mask_storeu_epi8(out + 3 * pitch, columns, _mm512_extracti32x4_epi32(codes, 3));
  }
}

// The end of a small tile, in parts of one or two vectors of sums each.
template <int C, End kEnd, Range kRange, bool kIsHalf>
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
      } else if (kIsHalf && c == C - 1) {
        rounded_sums[vector] = rounded_half<kResidual>(e, scale[c], sum[row][c], c, residual, at);
      } else {
        rounded_sums[vector] = rounded<kResidual, kRange>(e, scale[c], sum[row][c], c, residual, at);
      }
    }
    if ((part + 1) * kVectors % 4 != 0) return;
    store_rows<C, kRange>(out, pitch, mask,
                          packed_codes<kRange>(to, rounded_sums[0], rounded_sums[1], rounded_sums[2], rounded_sums[3]));
    out += 4 / C * pitch;
    if constexpr (kResidual) residual += 4 / C * pitch;
  }
};

// Where the next step's codes and weights are.
template <int kGroups>
struct Place {
  const std::uint8_t* rows[kGroups];
  const std::byte* weights;

  // Addresses of later steps must not be prepared: there are too few registers, and those that wait in vector registers
  // take multipliers' turns when they come back.
  AOQ_INLINE void move(std::int64_t codes, std::int64_t bytes) {
    weights += bytes;
    asm volatile("" : "+r"(weights));
#pragma GCC unroll 3
    for (int g = 0; g < kGroups; ++g) {
      rows[g] += codes;
      asm volatile("" : "+r"(rows[g]));
    }
  }
};

// Needs as many steps as the end has parts.
template <int C, End kEnd, Range kRange, bool kIsHalf, bool kGathers = false>
void run_small_tiles(const PanelTile& t, const TileEnd& tile_end, std::int64_t tiles) {
  constexpr int kRows = kSmallRows<C>, kGroups = (kRows + 2) / 3, kEndSteps = kParts<kEnd>;
  const std::int64_t pitch = t.pitch, steps = t.steps;
  std::int64_t panel_bytes = t.panel_bytes;
  std::int64_t ahead = t.ahead - t.panels - 64 * kEndSteps;  // of the weights
  const TileEnd e = tile_end;
  SmallEnd<C, kEnd, kRange, kIsHalf> end(e);
  __m512i start[C], last[kRows][C];
  start_of<C>(t, start);
  InnerPixels* const later = t.later;
  const ThreeRunPlaces places = kGathers ? *t.places : ThreeRunPlaces{};
  Place<kGroups> at;
  at.weights = t.panels + 64;
#pragma GCC unroll 3
  for (int g = 0; g < kGroups; ++g) at.rows[g] = t.rows + 3 * g * pitch;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    asm volatile("" : "+r"(panel_bytes), "+r"(end.pitch));
    __m512i sum[kRows][C];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) sum[r][c] = start[c];
    }
    if (tile == 0) {
#pragma GCC unroll 8
      for (int i = 0; i < kEndSteps; ++i) {
        add_step<kRows, C, kIsHalf>(at.rows, pitch, 0, at.weights, panel_bytes, sum);
        at.move(4, 64);
      }
    } else {
#pragma GCC unroll 8
      for (int i = 0; i < kEndSteps; ++i) {
        add_step<kRows, C, kIsHalf>(at.rows, pitch, 0, at.weights, panel_bytes, sum);
        at.move(4, 64);
        end.finish_part(i, last);
      }
    }
    for (std::int64_t step = kEndSteps; step < steps; ++step) {
      _mm_prefetch(at.weights + ahead, _MM_HINT_T1);
      add_step<kRows, C, kIsHalf>(at.rows, pitch, 0, at.weights, panel_bytes, sum);
      at.move(4, 64);
    }
    if constexpr (kGathers) gather_next(*later, places, kRows);
    at.move(kRows * pitch - 4 * steps, -64 * steps);
    ahead = ahead < (2 + C) * panel_bytes ? ahead + 64 * (steps - kEndSteps) : 0;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) last[r][c] = sum[r][c];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kEndSteps; ++i) end.finish_part(i, last);
}

using RunSmallTiles = void (*)(const PanelTile&, const TileEnd&, std::int64_t);

// Null for ends that small tiles do not have.
template <int C, Range kRange, bool kIsHalf>
RunSmallTiles small_tiles_of(End end) {
  switch (end) {
    case End::codes:
      return run_small_tiles<C, End::codes, kRange, kIsHalf>;
    case End::codes_with_residual:
      return run_small_tiles<C, End::codes_with_residual, kRange, kIsHalf>;
    case End::codes_of_hardswish:
      return run_small_tiles<C, End::codes_of_hardswish, Range::any, false>;
    case End::floats:
    case End::sums:
      break;
  }
  return nullptr;
}

template <int C>
RunSmallTiles small_tiles_of(End end, Range range, bool is_half) {
  if (range == Range::plain) return small_tiles_of<C, Range::plain, false>(end);
  if (range == Range::saturated && end == End::codes_with_residual) {
    return run_small_tiles<C, End::codes_with_residual, Range::saturated, false>;
  }
  return is_half ? small_tiles_of<C, Range::any, true>(end) : small_tiles_of<C, Range::any, false>(end);
}

RunSmallTiles small_tiles_of(End end, Range range, std::int64_t columns) {
  const bool is_half = (columns - 1) % 16 < 8;
  return columns > 16 ? small_tiles_of<2>(end, range, is_half) : small_tiles_of<1>(end, range, is_half);
}

// Null where no such tiles gather.
RunSmallTiles gathering_tiles_of(End end, Range range, std::int64_t columns) {
  if (end != End::codes || columns <= 24) return nullptr;
  return range == Range::plain ? run_small_tiles<2, End::codes, Range::plain, false, true>
                               : run_small_tiles<2, End::codes, Range::any, false, true>;
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

}  // namespace
}  // namespace aoq::cpu
