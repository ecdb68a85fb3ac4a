// AVX2 int8 depthwise convolution: 16 channels of a pixel at a time, two taps interleaved for `vpmaddwd`.
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/taps_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPixels = 4;

// Adds the taps of 16 channels from `channel` on; kPairs is the number of tap pairs, or 0 to use `pairs`.
template <bool kSigned, int kPairs>
inline void add_taps(const std::uint8_t* const* taps, std::int64_t pairs, std::int64_t channel, const __m256i* weights,
                     __m256i* sums) {
  __m256i low = sums[0];
  __m256i high = sums[1];
  std::int64_t count = kPairs == 0 ? pairs : kPairs;
#pragma GCC unroll 5
  for (std::int64_t pair = 0; pair < count; ++pair) {
    __m128i a = load_bytes(taps[2 * pair] + channel);
    __m128i b = load_bytes(taps[2 * pair + 1] + channel);
    __m256i first = widen_to_s16<kSigned>(_mm_unpacklo_epi8(a, b));
    __m256i second = widen_to_s16<kSigned>(_mm_unpackhi_epi8(a, b));
    low = _mm256_add_epi32(low, _mm256_madd_epi16(first, _mm256_load_si256(weights + 2 * pair)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(second, _mm256_load_si256(weights + 2 * pair + 1)));
  }
  sums[0] = low;
  sums[1] = high;
}

struct RowTarget {
  const DepthwiseS8Args* args;
  std::int64_t pixels;
  std::int64_t index;  // of the first pixel's channel 0
};

// Channel `start` to start + 15 of a group of pixels.
template <bool kSigned, int kPairs>
void convolve_block(const DepthwiseS8Plan& plan, const RowTarget& target, const std::uint8_t* const* taps,
                    const std::byte* packed, std::int64_t start) {
  const ConvDims& d = plan.dims;
  std::int64_t pairs = (d.kernel_h * d.kernel_w + 1) / 2;
  alignas(32) std::int32_t acc[kPixels * 16];
  const auto* block = reinterpret_cast<const __m256i*>(packed);
  __m256i minus_zero_point = _mm256_set1_epi32(-target.args->x_zero_point);
  __m256i initial[2] = {_mm256_mullo_epi32(_mm256_load_si256(block), minus_zero_point),
                        _mm256_mullo_epi32(_mm256_load_si256(block + 1), minus_zero_point)};
  std::int64_t offset = d.in_c < 16 ? 0 : start;
  for (std::int64_t p = 0; p < target.pixels; ++p) {
    __m256i sums[2] = {initial[0], initial[1]};
    add_taps<kSigned, kPairs>(taps + p * 2 * pairs, pairs, offset, block + 2, sums);
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * p), sums[0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * p + 8), sums[1]);
  }
  TileTarget tile = {.rows = target.pixels,
                     .columns = min_of(d.out_c, 16),
                     .index = target.index + start,
                     .pitch = d.out_c,
                     .channel = start};
  store_tile(plan.epilogue, target.args->epilogue, tile, acc);
}

// Below 16 channels a whole vector would read behind the pixel: its taps are copied to 16-byte slots.
void copy_taps(const ConvDims& d, std::int64_t count, const std::uint8_t** taps, std::uint8_t* slots) {
  for (std::int64_t t = 0; t < count; ++t) {
    copy_bytes(slots + 16 * t, taps[t], d.in_c);
    taps[t] = slots + 16 * t;
  }
}

template <bool kSigned, int kPairs>
void convolve_row(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit, std::byte* scratch) {
  const ConvDims& d = plan.dims;
  std::int64_t count = d.kernel_h * d.kernel_w;
  std::int64_t pitch = (count + 1) / 2 * 2;
  std::int64_t slots = kPixels * pitch;
  const auto** taps = reinterpret_cast<const std::uint8_t**>(scratch);
  auto* copies = reinterpret_cast<std::uint8_t*>(scratch + (slots * 8 + 63) / 64 * 64);
  std::uint8_t* padding = copies + (slots * 16 + 63) / 64 * 64;
  __builtin_memset(padding, static_cast<std::uint8_t>(args.x_zero_point), static_cast<std::size_t>(d.in_c));
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  TapRow<std::uint8_t> row = {
      .dims = &d, .image = x + unit / d.out_h * d.in_h * d.in_w * d.in_c, .padding = padding, .oy = unit % d.out_h};
  for (std::int64_t ox = 0; ox < d.out_w; ox += kPixels) {
    RowTarget target = {
        .args = &args, .pixels = min_of(d.out_w - ox, kPixels), .index = (unit * d.out_w + ox) * d.out_c};
    find_taps_of_pixels(row, ox, target.pixels, pitch, taps);
    if (count != pitch) {
      for (std::int64_t p = 0; p < target.pixels; ++p) taps[p * pitch + count] = taps[p * pitch];
    }
    if (d.in_c < 16) copy_taps(d, target.pixels * pitch, taps, copies);
    const std::byte* packed = args.weights;
    for (std::int64_t channel = 0; channel < d.in_c; channel += 16, packed += 64 + 32 * pitch) {
      convolve_block<kSigned, kPairs>(plan, target, taps, packed, max_of(min_of(channel, d.in_c - 16), 0));
    }
  }
}

template <bool kSigned>
void convolve_rows(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                   std::int64_t unit_end, std::byte* scratch) {
  std::int64_t pairs = (plan.dims.kernel_h * plan.dims.kernel_w + 1) / 2;
  auto row = pairs == 5 ? convolve_row<kSigned, 5> : convolve_row<kSigned, 0>;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) row(plan, args, unit, scratch);
}

}  // namespace

void run_depthwise_s8_avx2(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch) {
  if (plan.x_type == DType::i8) {
    convolve_rows<true>(plan, args, unit_begin, unit_end, scratch);
  } else {
    convolve_rows<false>(plan, args, unit_begin, unit_end, scratch);
  }
}

}  // namespace aoq::cpu
