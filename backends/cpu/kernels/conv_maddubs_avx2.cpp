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
void multiply_to_codes(const Tile& t, const PlainEpilogue& e, const PlainTarget& to) {
  __m256i sum[R][kHalves];
  multiply<R, kHalves>(t, sum);
  store_codes<R, kHalves, kSigned, kAddend>(e, sum, to);
}

using ToMemory = void (*)(const Tile&, std::int32_t*);
using ToCodes = void (*)(const Tile&, const PlainEpilogue&, const PlainTarget&);

template <int kHalves>
ToMemory to_memory(std::int64_t rows) {
  constexpr ToMemory kTiles[kTileRows] = {multiply_to_memory<1, kHalves>, multiply_to_memory<2, kHalves>,
                                          multiply_to_memory<3, kHalves>, multiply_to_memory<4, kHalves>};
  return kTiles[rows - 1];
}

template <int kHalves, bool kSigned, Addend kAddend>
ToCodes to_codes(std::int64_t rows) {
  constexpr ToCodes kTiles[kTileRows] = {
      multiply_to_codes<1, kHalves, kSigned, kAddend>, multiply_to_codes<2, kHalves, kSigned, kAddend>,
      multiply_to_codes<3, kHalves, kSigned, kAddend>, multiply_to_codes<4, kHalves, kSigned, kAddend>};
  return kTiles[rows - 1];
}

template <int kHalves, bool kSigned>
ToCodes to_codes(const EpilogueS8& e, std::int64_t rows) {
  switch (addend_of(e)) {
    case Addend::none:
      return to_codes<kHalves, kSigned, Addend::none>(rows);
    case Addend::u8:
      return to_codes<kHalves, kSigned, Addend::u8>(rows);
    case Addend::i8:
      break;
  }
  return to_codes<kHalves, kSigned, Addend::i8>(rows);
}

ToCodes to_codes_of(const EpilogueS8& e, std::int64_t rows, std::int64_t columns) {
  const bool is_signed = e.out_type == DType::i8;
  if (columns == 16) return is_signed ? to_codes<2, true>(e, rows) : to_codes<2, false>(e, rows);
  return is_signed ? to_codes<1, true>(e, rows) : to_codes<1, false>(e, rows);
}

// One panel of a block of rows, in tiles of nearly the same height.
void multiply_panel(const ConvMaddubsPlan& plan, const ConvS8Args& args, const ConvUnit& block, Tile tile,
                    std::int64_t panel) {
  const std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  const std::int64_t columns = min_of(group_out - panel * 16, 16);
  TileTarget target = {.rows = 0,
                       .columns = columns,
                       .index = block.row_begin * plan.dims.out_c + block.group * group_out + panel * 16,
                       .pitch = plan.dims.out_c,
                       .channel = (block.group * plan.panels + panel) * 16};
  alignas(32) std::int32_t acc[kTileRows * 16] = {};
  const PlainEpilogue plain = plain_epilogue(plan.epilogue, args.epilogue, target.channel);
  const bool is_plain = has_plain_epilogue(plan.epilogue, columns);
  auto* out = static_cast<std::uint8_t*>(args.epilogue.out);
  const auto* residual = static_cast<const std::uint8_t*>(args.epilogue.residual);
  std::int64_t left = block.row_end - block.row_begin;
  for (std::int64_t tiles = (left + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
    target.rows = (left + tiles - 1) / tiles;
    if (is_plain) {
      const PlainTarget to = {out + target.index, residual + target.index, target.pitch};
      to_codes_of(plan.epilogue, target.rows, columns)(tile, plain, to);
    } else {
      (columns > 8 ? to_memory<2>(target.rows) : to_memory<1>(target.rows))(tile, acc);
      store_tile(plan.epilogue, args.epilogue, target, acc);
    }
    tile.rows += target.rows * tile.pitch;
    target.index += target.rows * target.pitch;
    left -= target.rows;
  }
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
    multiply_panel(plan, args, block, tile, panel);
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
