// The tile of conv_maddubs.h: up to 4 pixels x 16 channels. 5 pixels would fit the registers and multiply a little
// faster, but sums become codes by pairs of rows.
#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_panels_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"

namespace aoq::cpu {
namespace {

// The words that are read, and their numbers.
struct Place {
  const std::byte* weights;
  const std::uint16_t* numbers;
};

// 16 times the number of so many low bits that are all set. Loaded anew where it is used: as a constant of the loop
// over tiles it would take a register from the sums.
alignas(32) constexpr std::int16_t kShortsOfOnes[2][16] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}};
template <int kBits>
AOQ_INLINE __m256i shorts_of_ones() {
  static_assert(kBits == 1 || kBits == 8);
  __m256i v;
  asm volatile("vmovdqa %1, %0" : "=x"(v) : "m"(kShortsOfOnes[kBits == 8]));
  return v;
}

template <int kHalves>
AOQ_INLINE void load_word(const std::byte* weights, __m256i (&w)[kHalves]) {
#pragma GCC unroll 2
  for (int h = 0; h < kHalves; ++h) w[h] = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights + 32 * h));
}

// One row is as fast as its weights come from memory.
template <int R>
AOQ_INLINE void fetch_ahead(const std::byte* weights) {
  constexpr std::int64_t kBytes = 8192;
  if constexpr (R == 1) _mm_prefetch(weights + kBytes, _MM_HINT_T1);
}

// Adds a row's doubled word to its 16 sums: codes x times the weights at `first` and y times those of `second`. In this
// order, which g++ would not keep, it takes some 3 % less time.
AOQ_INLINE void add_double(__m256i x, __m256i y, const std::byte* first, const __m256i& first_low,
                           const __m256i (&second)[2], __m256i ones, __m256i (&sum)[2]) {
  __m256i high, other;
  asm volatile(
      "vpmaddubsw %7, %2, %4\n\t"
      "vpmaddubsw %6, %2, %2\n\t"
      "vpmaddubsw %9, %3, %5\n\t"
      "vpmaddubsw %8, %3, %3\n\t"
      "vpaddw %5, %4, %4\n\t"
      "vpaddw %3, %2, %2\n\t"
      "vpmaddwd %10, %4, %4\n\t"
      "vpmaddwd %10, %2, %2\n\t"
      "vpaddd %2, %0, %0\n\t"
      "vpaddd %4, %1, %1"
      : "+x"(sum[0]), "+x"(sum[1]), "+x"(x), "+x"(y), "=&x"(high), "=&x"(other)
      : "x"(first_low), "m"(*reinterpret_cast<const __m256i*>(first + 32)), "x"(second[0]), "x"(second[1]), "x"(ones));
}

template <int R, int kHalves>
AOQ_INLINE void add_doubles(Place& at, std::int64_t count, const std::uint8_t* const (&rows)[R],
                            __m256i (&sum)[R][kHalves]) {
  const __m256i ones = shorts_of_ones<1>();
  for (; count > 0; --count, at.weights += 128, at.numbers += 2) {
    __m256i first[kHalves], second[kHalves];
    load_word<kHalves>(at.weights, first);
    load_word<kHalves>(at.weights + 64, second);
    fetch_ahead<R>(at.weights);
    fetch_ahead<R>(at.weights + 64);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i x = word_of(rows[r], at.numbers[0]), y = word_of(rows[r], at.numbers[1]);
      if constexpr (R > 1 && kHalves == 2) {
        add_double(x, y, at.weights, first[0], second, ones, sum[r]);
        continue;
      }
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        const __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(x, first[h]), _mm256_maddubs_epi16(y, second[h]));
        add_s32_in_place(sum[r][h], _mm256_madd_epi16(both, ones));
      }
    }
  }
}

template <int R, int kHalves>
AOQ_INLINE void add_singles(Place& at, std::int64_t count, const std::uint8_t* const (&rows)[R],
                            __m256i (&sum)[R][kHalves]) {
  const __m256i ones = shorts_of_ones<1>();
  for (; count > 0; --count, at.weights += 64, ++at.numbers) {
    __m256i w[kHalves];
    load_word<kHalves>(at.weights, w);
    fetch_ahead<R>(at.weights);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i x = word_of(rows[r], *at.numbers);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        add_s32_in_place(sum[r][h], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w[h]), ones));
      }
    }
  }
}

template <int R, int kHalves>
AOQ_INLINE void add_widened(Place at, std::int64_t count, const std::uint8_t* const (&rows)[R],
                            __m256i (&sum)[R][kHalves]) {
  const __m256i low_bytes = shorts_of_ones<8>();
  for (; count > 0; --count, at.weights += 64, ++at.numbers) {
    __m256i even[kHalves], odd[kHalves];
    fetch_ahead<R>(at.weights);
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      even[h] = _mm256_cvtepi8_epi16(load_bytes(at.weights + 16 * h));
      odd[h] = _mm256_cvtepi8_epi16(load_bytes(at.weights + 32 + 16 * h));
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i x = word_of(rows[r], *at.numbers);
      const __m256i high = _mm256_srli_epi16(x, 8);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) add_s32_in_place(sum[r][h], _mm256_madd_epi16(high, odd[h]));
      const __m256i low = _mm256_and_si256(x, low_bytes);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) add_s32_in_place(sum[r][h], _mm256_madd_epi16(low, even[h]));
    }
  }
}

// A panel, and rows of u8 codes `pitch` bytes apart.
struct Tile {
  static constexpr int kRows = kMaddubsTileRows;

  const std::uint8_t* rows;
  std::int64_t pitch;
  const std::int32_t* starts;  // of the 16 sums
  std::int64_t codes;          // of a row
  const std::uint8_t* places;  // of its ordered bytes
  std::uint8_t* ordered;       // rows `ordered_pitch` bytes apart
  std::int64_t ordered_pitch;
  Place words;
  std::int64_t doubles, singles, widened;
  Ahead ahead;

  Tile(const ConvPanelsPlan& plan, const std::byte* packed, const std::int32_t* starts_of_sums, std::byte* scratch)
      : pitch(plan.pitch),
        starts(starts_of_sums),
        codes(4 * plan.steps),
        places(reinterpret_cast<const std::uint8_t*>(packed + maddubs_places_offset(plan.steps))),
        ordered(reinterpret_cast<std::uint8_t*>(scratch)),
        ordered_pitch(ordered_pitch_maddubs(plan.steps)) {
    const auto* head = reinterpret_cast<const std::uint16_t*>(packed + 64);
    words = {packed + maddubs_weights_offset(plan.steps), head + 2};
    doubles = head[0];
    singles = head[1];
    widened = plan.steps - 2 * doubles - singles;
  }

  template <int R>
  AOQ_INLINE void prepare() const {
    order_rows<R>();
  }

  template <int R, int kHalves>
  AOQ_INLINE void multiply(__m256i (&sum)[R][kHalves]) const {
    const std::uint8_t* row[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) row[r] = ordered + r * ordered_pitch;
    start(starts, sum);
    Place at = words;
    add_doubles<R, kHalves>(at, doubles, row, sum);
    add_singles<R, kHalves>(at, singles, row, sum);
    add_widened<R, kHalves>(at, widened, row, sum);
  }

 private:
  // Windows as safe_order.h cuts them, two at a time.
  template <int R>
  AOQ_INLINE void order_rows() const {
    const std::uint8_t* from[R];
    std::uint8_t* to[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      from[r] = rows + r * pitch;
      to[r] = ordered + r * ordered_pitch;
    }
    const std::int64_t n = codes;
    const std::uint8_t* at = places;
    std::int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
      const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + i));
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from[r] + i));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[r] + i), _mm256_shuffle_epi8(x, order));
      }
    }
    if (i == n) return;
    // The last window, and one before it if there is one.
    const std::int64_t last = max_of(n - 16, 0), begin = min_of(i, last);
    const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + i));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i x =
          _mm256_inserti128_si256(_mm256_castsi128_si256(load_bytes(from[r] + begin)), load_bytes(from[r] + last), 1);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to[r] + i), _mm256_shuffle_epi8(x, order));
    }
  }
};

}  // namespace

void run_conv_maddubs_avx2(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch) {
  run_panels<Tile>(plan, args, unit_begin, unit_end, scratch);
}

}  // namespace aoq::cpu
