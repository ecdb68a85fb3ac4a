// How int8 convolutions go panel by panel over rows of u8 codes (conv_panels.h), for translation units of 256-bit
// vectors.
//
// A kernel gives a Tile, one panel and up to kRows rows:
//   Tile(plan, packed panel, starts of the 16 sums, its own bytes of scratch)
//   rows, ahead                                             set afterwards
//   prepare<R>()                                            what R rows need before they are multiplied, if anything
//   multiply<R, kHalves>(sum[R][kHalves])                   R rows times 8 * kHalves columns, on top of the starts
#pragma once

#include "backends/cpu/kernels/conv_panels.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/gather_u8_avx2.h"

#define AOQ_INLINE inline __attribute__((always_inline))

namespace aoq::cpu {
namespace {

// u8_whole: those of has_whole_codes.
enum class Codes : std::uint8_t { u8, u8_whole, i8 };

// What lies behind a panel is mostly read next; some lines of it are fetched after every tile.
struct Ahead {
  const std::byte* at = nullptr;
  std::int64_t lines = 0;

  AOQ_INLINE void fetch() {
    for (std::int64_t left = lines; left > 0; --left, at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

AOQ_INLINE __m256i word_of(const std::uint8_t* row, std::int64_t number) {
  return _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(row + 4 * number));
}

// The starts of the sums of R rows.
template <int R, int kHalves>
AOQ_INLINE void start(const std::int32_t* starts, __m256i (&sum)[R][kHalves]) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      sum[r][h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(starts + 8 * h));
    }
  }
}

template <int R, typename Tile>
AOQ_INLINE void prepare(const Tile& t) {
  if constexpr (requires { t.template prepare<R>(); }) t.template prepare<R>();
}

// The sums of a tile, [row][16].
template <int R, int kHalves, typename Tile>
__attribute__((noinline)) void multiply_to_memory(const Tile& t, std::int32_t* acc) {
  __m256i sum[R][kHalves];
  prepare<R>(t);
  t.template multiply<R, kHalves>(sum);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * r + 8 * h), sum[r][h]);
  }
}

// Tiles of R rows. The next one is prepared before the end of this one: its products wait for what that writes.
template <int R, int kHalves, Codes kCodes, Addend kAddend, typename Tile>
__attribute__((noinline)) void tiles_to_codes(Tile t, std::int64_t tiles, const PlainEpilogue& e, PlainTarget to) {
  if (tiles == 0) return;
  prepare<R>(t);
  for (; tiles > 0; --tiles) {
    __m256i sum[R][kHalves];
    t.template multiply<R, kHalves>(sum);
    t.rows += R * t.pitch;
    if (tiles > 1) prepare<R>(t);
    store_codes<R, kHalves, kCodes == Codes::i8, kAddend, kCodes == Codes::u8_whole>(e, sum, to);
    t.ahead.fetch();
    to.out += R * to.pitch;
    if constexpr (kAddend != Addend::none) to.residual += R * to.pitch;
  }
}

// The last rows, fewer than R.
template <int R, int kHalves, Codes kCodes, Addend kAddend, typename Tile>
void last_to_codes(const Tile& t, std::int64_t rows, const PlainEpilogue& e, const PlainTarget& to) {
  if constexpr (R > 1) {
    if (rows == R - 1) return tiles_to_codes<R - 1, kHalves, kCodes, kAddend>(t, 1, e, to);
    last_to_codes<R - 1, kHalves, kCodes, kAddend>(t, rows, e, to);
  }
}
template <int R, int kHalves, typename Tile>
void rows_to_memory(const Tile& t, std::int64_t rows, std::int32_t* acc) {
  if constexpr (R > 0) {
    if (rows == R) return multiply_to_memory<R, kHalves>(t, acc);
    rows_to_memory<R - 1, kHalves>(t, rows, acc);
  }
}

// One panel of a block of rows.
template <int kHalves, Codes kCodes, Addend kAddend, typename Tile>
void panel_to_codes(Tile t, std::int64_t rows, const PlainEpilogue& e, PlainTarget to) {
  const std::int64_t tiles = rows / Tile::kRows, done = tiles * Tile::kRows;
  tiles_to_codes<Tile::kRows, kHalves, kCodes, kAddend>(t, tiles, e, to);
  t.rows += done * t.pitch;
  to.out += done * to.pitch;
  if constexpr (kAddend != Addend::none) to.residual += done * to.pitch;
  last_to_codes<Tile::kRows, kHalves, kCodes, kAddend>(t, rows - done, e, to);
}

template <int kHalves, Codes kCodes, typename Tile>
void panel_to_codes(Addend addend, const Tile& t, std::int64_t rows, const PlainEpilogue& e, const PlainTarget& to) {
  if (addend == Addend::none) return panel_to_codes<kHalves, kCodes, Addend::none>(t, rows, e, to);
  if (addend == Addend::u8) return panel_to_codes<kHalves, kCodes, Addend::u8>(t, rows, e, to);
  panel_to_codes<kHalves, kCodes, Addend::i8>(t, rows, e, to);
}

template <int kHalves, typename Tile>
void panel_to_memory(Tile t, std::int64_t rows, const EpilogueS8& e, const EpilogueArgs& args, TileTarget target) {
  alignas(32) std::int32_t acc[Tile::kRows * 16] = {};
  for (; rows > 0; rows -= Tile::kRows) {
    target.rows = min_of(rows, Tile::kRows);
    rows_to_memory<Tile::kRows, kHalves>(t, target.rows, acc);
    store_tile(e, args, target, acc);
    t.rows += Tile::kRows * t.pitch;
    t.ahead.fetch();
    target.index += Tile::kRows * target.pitch;
  }
}

// `target`: of the first row.
template <typename Tile>
void multiply_panel(const ConvPanelsPlan& plan, const EpilogueArgs& args, const Tile& t, std::int64_t rows,
                    const TileTarget& target) {
  const EpilogueS8& e = plan.epilogue;
  if (!has_plain_epilogue(e, args, plan.k, target.channel, target.columns)) {
    if (target.columns > 8) return panel_to_memory<2>(t, rows, e, args, target);
    return panel_to_memory<1>(t, rows, e, args, target);
  }
  const PlainEpilogue plain = plain_epilogue(e, args, target.channel);
  PlainTarget to = {static_cast<std::uint8_t*>(args.out) + target.index, nullptr, target.pitch};
  if (e.has_residual) to.residual = static_cast<const std::uint8_t*>(args.residual) + target.index;
  const Addend addend = addend_of(e);
  const bool is_whole = target.columns == 16;
  if (e.out_type == DType::i8) {
    if (is_whole) return panel_to_codes<2, Codes::i8>(addend, t, rows, plain, to);
    return panel_to_codes<1, Codes::i8>(addend, t, rows, plain, to);
  }
  if (is_whole && addend == Addend::none && has_whole_codes(e)) {
    return panel_to_codes<2, Codes::u8_whole, Addend::none>(t, rows, plain, to);
  }
  if (is_whole && addend == Addend::u8 && has_whole_codes(e)) {
    return panel_to_codes<2, Codes::u8_whole, Addend::u8>(t, rows, plain, to);
  }
  if (is_whole) return panel_to_codes<2, Codes::u8>(addend, t, rows, plain, to);
  panel_to_codes<1, Codes::u8>(addend, t, rows, plain, to);
}

// -z * (sum of w) of a panel's columns.
inline void start_sums(const std::byte* panel, std::int32_t zero_point, std::int32_t* starts) {
  const __m256i z = _mm256_set1_epi32(-zero_point);
  for (int h = 0; h < 2; ++h) {
    const __m256i sums = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel + 32 * h));
    _mm256_store_si256(reinterpret_cast<__m256i*>(starts + 8 * h), _mm256_mullo_epi32(sums, z));
  }
}

template <typename Tile>
void multiply_block(const ConvPanelsPlan& plan, const ConvS8Args& args, const ConvUnit& block, const std::uint8_t* rows,
                    std::byte* scratch) {
  const std::int32_t zero_point = args.x_zero_point + (plan.x_type == DType::i8 ? 128 : 0);
  const std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  // What a second-level cache need not keep from run to run.
  const bool is_far = plan.panels * plan.panel_bytes > 64 * 1024;
  alignas(32) std::int32_t starts[16];
  for (std::int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    const std::byte* packed = args.weights + (block.group * plan.panels + panel) * plan.panel_bytes;
    start_sums(packed, zero_point, starts);
    Tile tile(plan, packed, starts, scratch + plan.tile_offset);
    tile.rows = rows;
    const std::int64_t tiles = (block.row_end - block.row_begin) / Tile::kRows;
    if (is_far && tiles > 0) tile.ahead = {packed + plan.panel_bytes, plan.panel_bytes / 64 / tiles + 1};
    const TileTarget target = {.rows = 0,
                               .columns = min_of(group_out - panel * 16, 16),
                               .index = block.row_begin * plan.dims.out_c + block.group * group_out + panel * 16,
                               .pitch = plan.dims.out_c,
                               .channel = (block.group * plan.panels + panel) * 16};
    multiply_panel(plan, args.epilogue, tile, block.row_end - block.row_begin, target);
  }
}

template <typename Tile>
void run_panels(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                std::byte* scratch) {
  auto* gathered = reinterpret_cast<std::uint8_t*>(scratch);
  const GatherU8 gather = gather_of(plan.dims, args.x, plan.x_type == DType::i8, args.x_zero_point);
  std::int64_t held = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit block = unit_at(plan, unit);
    const std::uint8_t* rows = plan.reads_in_place ? gather.x + block.row_begin * plan.pitch : gathered;
    // Units that follow each other share their rows when only the panels differ.
    if (!plan.reads_in_place && held != block.row_unit) {
      gather_rows(plan.dims, gather, block.group, block.row_begin, block.row_end, gathered, plan.pitch);
      held = block.row_unit;
    }
    multiply_block<Tile>(plan, args, block, rows, scratch);
  }
}

}  // namespace
}  // namespace aoq::cpu
