// Which codes of K a panel of 16 output channels may multiply together by `vpmaddubsw`, whose sums of two products of
// u8 and s8 saturate at 16 bits.
//
// Codes *fit* together if in every channel their positive weights sum to at most 128 and their negative ones to at
// least -128: whatever the u8 codes are, any of their products sum to at most 255 * 128 < 2^15. Two codes that fit make
// a safe pair, two pairs a word of four codes. Two words whose first pairs fit together, and whose second pairs do, are
// *doubled*: their products are added in 16 bits, which saves a widening sum of one word in two.
//
// Codes are reordered inside of windows of 16, where one byte shuffle does it; words may be doubled with those of any
// window. What makes no safe pair is left for products of 16 bits. In trained layers with K >= 96 some 40 to 98 of 100
// codes are doubled, and 0 to 5 are not safe; with K <= 40 few are doubled, and up to 50 are not safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace aoq::cpu {

inline constexpr std::int64_t kOrderWindow = 16;

// The codes that window `index` of `codes` reorders: [first, first + count), read as 16 bytes from `begin` on. Codes
// behind the last whole window are read with those before them.
struct OrderWindow {
  std::int64_t first, count, begin;
};
OrderWindow order_window(std::int64_t index, std::int64_t codes);

struct SafeOrder {
  std::vector<std::uint8_t> places;    // of the codes of every ordered byte, from its window's begin
  std::vector<std::uint16_t> numbers;  // of the ordered words: those of each double, the single ones, the unsafe ones
  std::int64_t doubles = 0;            // of two words
  std::int64_t singles = 0;
};

// Weights are [K][16], K a multiple of 4 and at most 2^18.
SafeOrder order_safely(std::span<const std::int8_t> weights);

}  // namespace aoq::cpu
