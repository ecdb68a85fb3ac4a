// The tile of conv_maddubs.h: up to 4 pixels x 16 channels. 5 pixels would fit the registers and multiply a little
// faster, but sums become codes by pairs of rows.
#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_panels_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"

namespace aoq::cpu {
namespace {

// How a pairing orders the bytes of a word.
alignas(16) constexpr std::uint8_t kShuffles[kMaddubsPairings][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15},
    {0, 3, 1, 2, 4, 7, 5, 6, 8, 11, 9, 10, 12, 15, 13, 14}};

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

// A panel, and rows of u8 codes `pitch` bytes apart.
struct Tile {
  static constexpr int kRows = kMaddubsTileRows;

  const std::uint8_t* rows;
  std::int64_t pitch;
  const std::int32_t* starts;  // of the 16 sums
  Place words;
  std::int64_t paired[kMaddubsPairings];  // words of each pairing
  std::int64_t widened;

  Tile(const ConvPanelsPlan& plan, const std::byte* panel, const std::int32_t* starts_of_sums)
      : pitch(plan.pitch), starts(starts_of_sums) {
    const auto* numbers = reinterpret_cast<const std::uint16_t*>(panel + 64);
    words = {panel + plan.panel_bytes - 64 * plan.steps, numbers + kMaddubsPairings};
    widened = plan.steps;
    for (int i = 0; i < kMaddubsPairings; ++i) {
      paired[i] = numbers[i];
      widened -= numbers[i];
    }
  }

  template <int R, int kHalves>
  AOQ_INLINE void multiply(__m256i (&sum)[R][kHalves]) const {
    const std::uint8_t* row[R];
    start<R, kHalves>(*this, row, sum);
    Place at = words;
    add_paired_words<R, kHalves, false>(at, paired[0], __m256i{}, row, sum);
    for (int pairing = 1; pairing < kMaddubsPairings; ++pairing) {
      const __m256i shuffle = _mm256_broadcastsi128_si256(load_bytes(kShuffles[pairing]));
      add_paired_words<R, kHalves, true>(at, paired[pairing], shuffle, row, sum);
    }
    add_widened_words<R, kHalves>(at, widened, row, sum);
  }
};

}  // namespace

void run_conv_maddubs_avx2(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch) {
  run_panels<Tile>(plan, args, unit_begin, unit_end, scratch);
}

}  // namespace aoq::cpu
