// The tile of conv_maddubs.h: up to 4 pixels x 16 channels. 5 pixels would fit the registers and multiply a little
// faster, but sums become codes by pairs of rows.
#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/gather_u8_avx2.h"

namespace aoq::cpu {
namespace {

constexpr int kTileRows = kMaddubsTileRows;

#define AOQ_INLINE inline __attribute__((always_inline))

// A panel, and rows of u8 codes `pitch` bytes apart.
struct Tile {
  const std::uint8_t* rows;
  std::int64_t pitch;
  const std::int32_t* starts;  // of the 16 sums
  const std::uint16_t* numbers;
  const std::byte* weights;
  std::int64_t paired[kMaddubsPairings];  // words of each pairing
  std::int64_t widened;
};

// How a pairing orders the bytes of a word.
alignas(16) constexpr std::uint8_t kShuffles[kMaddubsPairings][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15},
    {0, 3, 1, 2, 4, 7, 5, 6, 8, 11, 9, 10, 12, 15, 13, 14}};

AOQ_INLINE __m256i word_of(const std::uint8_t* row, std::int64_t number) {
  return _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(row + 4 * number));
}

// The words that are read, and their numbers.
struct Place {
  const std::byte* weights;
  const std::uint16_t* numbers;
};

template <int R, int kHalves, bool kShuffled>
AOQ_INLINE void add_paired_words(Place& at, std::int64_t count, __m256i shuffle, const std::uint8_t* const (&rows)[R],
                                 __m256i (&sum)[R][kHalves]) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 2
  for (; count > 0; --count, at.weights += 64, ++at.numbers) {
    __m256i w[kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) w[h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(at.weights + 32 * h));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      __m256i x = word_of(rows[r], *at.numbers);
      if constexpr (kShuffled) x = _mm256_shuffle_epi8(x, shuffle);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        add_s32_in_place(sum[r][h], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w[h]), ones));
      }
    }
  }
}

template <int R, int kHalves>
AOQ_INLINE void add_widened_words(Place at, std::int64_t count, const std::uint8_t* const (&rows)[R],
                                  __m256i (&sum)[R][kHalves]) {
  const __m256i low_bytes = _mm256_set1_epi16(255);
  for (; count > 0; --count, at.weights += 64, ++at.numbers) {
    __m256i even[kHalves], odd[kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      even[h] = _mm256_cvtepi8_epi16(load_bytes(at.weights + 16 * h));
      odd[h] = _mm256_cvtepi8_epi16(load_bytes(at.weights + 32 + 16 * h));
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i x = word_of(rows[r], *at.numbers);
      const __m256i low = _mm256_and_si256(x, low_bytes), high = _mm256_srli_epi16(x, 8);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        add_s32_in_place(sum[r][h], _mm256_madd_epi16(low, even[h]));
        add_s32_in_place(sum[r][h], _mm256_madd_epi16(high, odd[h]));
      }
    }
  }
}

template <int R, int kHalves>
AOQ_INLINE void multiply(const Tile& t, __m256i (&sum)[R][kHalves]) {
  const std::uint8_t* rows[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    rows[r] = t.rows + r * t.pitch;
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      sum[r][h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(t.starts + 8 * h));
    }
  }
  Place at = {t.weights, t.numbers};
  add_paired_words<R, kHalves, false>(at, t.paired[0], __m256i{}, rows, sum);
  for (int pairing = 1; pairing < kMaddubsPairings; ++pairing) {
    const __m256i shuffle = _mm256_broadcastsi128_si256(load_bytes(kShuffles[pairing]));
    add_paired_words<R, kHalves, true>(at, t.paired[pairing], shuffle, rows, sum);
  }
  add_widened_words<R, kHalves>(at, t.widened, rows, sum);
}

// The sums of a tile, [row][16].
template <int R, int kHalves>
void multiply_to_memory(const Tile& t, std::int32_t* acc) {
  __m256i sum[R][kHalves];
  multiply<R, kHalves>(t, sum);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * r + 8 * h), sum[r][h]);
  }
}

template <int R, int kHalves, bool kSigned, Addend kAddend>
__attribute__((noinline)) void multiply_to_codes(const Tile& t, const PlainEpilogue& e, const PlainTarget& to) {
  __m256i sum[R][kHalves];
  multiply<R, kHalves>(t, sum);
  store_codes<R, kHalves, kSigned, kAddend>(e, sum, to);
}

// One panel of a block of rows.
struct PanelRows {
  Tile tile;
  std::int64_t rows;
};

template <int kHalves, bool kSigned, Addend kAddend>
void panel_to_codes(PanelRows p, const PlainEpilogue& e, PlainTarget to) {
  for (; p.rows >= kTileRows; p.rows -= kTileRows) {
    multiply_to_codes<kTileRows, kHalves, kSigned, kAddend>(p.tile, e, to);
    p.tile.rows += kTileRows * p.tile.pitch;
    to.out += kTileRows * to.pitch;
    if constexpr (kAddend != Addend::none) to.residual += kTileRows * to.pitch;
  }
  if (p.rows == 3) multiply_to_codes<3, kHalves, kSigned, kAddend>(p.tile, e, to);
  if (p.rows == 2) multiply_to_codes<2, kHalves, kSigned, kAddend>(p.tile, e, to);
  if (p.rows == 1) multiply_to_codes<1, kHalves, kSigned, kAddend>(p.tile, e, to);
}

template <int kHalves, bool kSigned>
void panel_to_codes(Addend addend, const PanelRows& p, const PlainEpilogue& e, const PlainTarget& to) {
  if (addend == Addend::none) return panel_to_codes<kHalves, kSigned, Addend::none>(p, e, to);
  if (addend == Addend::u8) return panel_to_codes<kHalves, kSigned, Addend::u8>(p, e, to);
  panel_to_codes<kHalves, kSigned, Addend::i8>(p, e, to);
}

template <int kHalves>
void panel_to_memory(PanelRows p, const EpilogueS8& e, const EpilogueArgs& args, TileTarget target) {
  using ToMemory = void (*)(const Tile&, std::int32_t*);
  constexpr ToMemory kTiles[kTileRows] = {multiply_to_memory<1, kHalves>, multiply_to_memory<2, kHalves>,
                                          multiply_to_memory<3, kHalves>, multiply_to_memory<4, kHalves>};
  alignas(32) std::int32_t acc[kTileRows * 16] = {};
  for (; p.rows > 0; p.rows -= kTileRows) {
    target.rows = min_of(p.rows, kTileRows);
    kTiles[target.rows - 1](p.tile, acc);
    store_tile(e, args, target, acc);
    p.tile.rows += kTileRows * p.tile.pitch;
    target.index += kTileRows * target.pitch;
  }
}

void multiply_panel(const ConvMaddubsPlan& plan, const EpilogueArgs& args, const PanelRows& p,
                    const TileTarget& target) {
  const EpilogueS8& e = plan.epilogue;
  if (!has_plain_epilogue(e, args, plan.k, target.channel, target.columns)) {
    return target.columns > 8 ? panel_to_memory<2>(p, e, args, target) : panel_to_memory<1>(p, e, args, target);
  }
  const PlainEpilogue plain = plain_epilogue(e, args, target.channel);
  PlainTarget to = {static_cast<std::uint8_t*>(args.out) + target.index, nullptr, target.pitch};
  if (e.has_residual) to.residual = static_cast<const std::uint8_t*>(args.residual) + target.index;
  const Addend addend = addend_of(e);
  const bool is_whole = target.columns == 16;
  if (e.out_type == DType::i8) {
    return is_whole ? panel_to_codes<2, true>(addend, p, plain, to) : panel_to_codes<1, true>(addend, p, plain, to);
  }
  return is_whole ? panel_to_codes<2, false>(addend, p, plain, to) : panel_to_codes<1, false>(addend, p, plain, to);
}

// -z * (sum of w) of a panel's columns.
void start_sums(const std::byte* panel, std::int32_t zero_point, std::int32_t* starts) {
  const __m256i z = _mm256_set1_epi32(-zero_point);
  for (int h = 0; h < 2; ++h) {
    const __m256i sums = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel + 32 * h));
    _mm256_store_si256(reinterpret_cast<__m256i*>(starts + 8 * h), _mm256_mullo_epi32(sums, z));
  }
}

void multiply_block(const ConvMaddubsPlan& plan, const ConvS8Args& args, const ConvUnit& block,
                    const std::uint8_t* rows) {
  const std::int32_t zero_point = args.x_zero_point + (plan.x_type == DType::i8 ? 128 : 0);
  const std::int64_t number_bytes = plan.panel_bytes - 64 - 64 * plan.steps;
  const std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  alignas(32) std::int32_t starts[16];
  for (std::int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    const std::byte* packed = args.weights + (block.group * plan.panels + panel) * plan.panel_bytes;
    const auto* numbers = reinterpret_cast<const std::uint16_t*>(packed + 64);
    start_sums(packed, zero_point, starts);
    const Tile tile = {.rows = rows,
                       .pitch = plan.pitch,
                       .starts = starts,
                       .numbers = numbers + kMaddubsPairings,
                       .weights = packed + 64 + number_bytes,
                       .paired = {numbers[0], numbers[1], numbers[2]},
                       .widened = plan.steps - numbers[0] - numbers[1] - numbers[2]};
    const TileTarget target = {.rows = 0,
                               .columns = min_of(group_out - panel * 16, 16),
                               .index = block.row_begin * plan.dims.out_c + block.group * group_out + panel * 16,
                               .pitch = plan.dims.out_c,
                               .channel = (block.group * plan.panels + panel) * 16};
    multiply_panel(plan, args.epilogue, {tile, block.row_end - block.row_begin}, target);
  }
}

}  // namespace

void run_conv_maddubs_avx2(const ConvMaddubsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch) {
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
    multiply_block(plan, args, block, rows);
  }
}

}  // namespace aoq::cpu
