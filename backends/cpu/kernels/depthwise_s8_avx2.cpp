// AVX2 int8 depthwise convolution: 16 channels of a pixel at a time, two taps interleaved for `vpmaddwd`.
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/taps_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPixels = 4;

// Adds the taps of kCount pixels (`pitch` pointers apart), 16 channels from `channel` on, to sums[pixel][half]. kPairs
// is the number of tap pairs, or 0 to use `pairs`.
template <bool kSigned, int kPairs, int kCount>
inline void add_taps(const std::uint8_t* const* taps, std::int64_t pairs, std::int64_t channel, const __m256i* weights,
                     __m256i (&sums)[kCount][2]) {
  std::int64_t count = kPairs == 0 ? pairs : kPairs;
#pragma GCC unroll 5
  for (std::int64_t pair = 0; pair < count; ++pair) {
    __m256i w[2] = {_mm256_load_si256(weights + 2 * pair), _mm256_load_si256(weights + 2 * pair + 1)};
#pragma GCC unroll 2
    for (int p = 0; p < kCount; ++p) {
      __m128i a = load_bytes(taps[2 * count * p + 2 * pair] + channel);
      __m128i b = load_bytes(taps[2 * count * p + 2 * pair + 1] + channel);
      __m256i low = widen_to_s16<kSigned>(_mm_unpacklo_epi8(a, b));
      __m256i high = widen_to_s16<kSigned>(_mm_unpackhi_epi8(a, b));
      sums[p][0] = _mm256_add_epi32(sums[p][0], _mm256_madd_epi16(low, w[0]));
      sums[p][1] = _mm256_add_epi32(sums[p][1], _mm256_madd_epi16(high, w[1]));
    }
  }
}

struct RowTarget {
  const DepthwiseS8Args* args;
  std::int64_t pixels;
  std::int64_t index;  // of the first pixel's channel 0
};

// Channels `start` to start + 15 of a group of pixels.
struct ChannelBlock {
  const __m256i* weights;
  __m256i initial[2];
  std::int64_t start;
};

template <bool kSigned, int kPairs>
void convolve_to_memory(const DepthwiseS8Plan& plan, const RowTarget& target, const std::uint8_t* const* taps,
                        const ChannelBlock& block) {
  const ConvDims& d = plan.dims;
  std::int64_t pairs = (d.kernel_h * d.kernel_w + 1) / 2;
  alignas(32) std::int32_t acc[kPixels * 16];
  for (std::int64_t p = 0; p < target.pixels; ++p) {
    __m256i sums[1][2] = {{block.initial[0], block.initial[1]}};
    add_taps<kSigned, kPairs, 1>(taps + p * 2 * pairs, pairs, d.in_c < 16 ? 0 : block.start, block.weights, sums);
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * p), sums[0][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 16 * p + 8), sums[0][1]);
  }
  TileTarget tile = {.rows = target.pixels,
                     .columns = min_of(d.out_c, 16),
                     .index = target.index + block.start,
                     .pitch = d.out_c,
                     .channel = block.start};
  store_tile(plan.epilogue, target.args->epilogue, tile, acc);
}

// Codes without residual and activation, at least 16 channels, an even number of pixels.
template <bool kSigned, int kPairs>
void convolve_to_codes(const DepthwiseS8Plan& plan, const RowTarget& target, const std::uint8_t* const* taps,
                       const ChannelBlock& block) {
  std::int64_t pairs = (plan.dims.kernel_h * plan.dims.kernel_w + 1) / 2;
  PlainEpilogue plain = plain_epilogue(plan.epilogue, target.args->epilogue, block.start);
  bool is_signed = plan.epilogue.out_type == DType::i8;
  std::int64_t pitch = plan.dims.out_c;
  auto* out = static_cast<std::uint8_t*>(target.args->epilogue.out) + target.index + block.start;
  for (std::int64_t p = 0; p < target.pixels; p += 2, out += 2 * pitch) {
    __m256i sums[2][2] = {{block.initial[0], block.initial[1]}, {block.initial[0], block.initial[1]}};
    add_taps<kSigned, kPairs, 2>(taps + p * 2 * pairs, pairs, block.start, block.weights, sums);
    __m256i bytes = is_signed ? plain_rows<true>(plain, sums[0][0], sums[0][1], sums[1][0], sums[1][1])
                              : plain_rows<false>(plain, sums[0][0], sums[0][1], sums[1][0], sums[1][1]);
    store_bytes(out, _mm256_castsi256_si128(bytes));
    store_bytes(out + pitch, _mm256_extracti128_si256(bytes, 1));
  }
}

template <bool kSigned, int kPairs>
void convolve_block(const DepthwiseS8Plan& plan, const RowTarget& target, const std::uint8_t* const* taps,
                    const std::byte* packed, std::int64_t start) {
  const auto* vectors = reinterpret_cast<const __m256i*>(packed);
  __m256i minus_zero_point = _mm256_set1_epi32(-target.args->x_zero_point);
  ChannelBlock block;
  block.initial[0] = _mm256_mullo_epi32(_mm256_load_si256(vectors), minus_zero_point);
  block.initial[1] = _mm256_mullo_epi32(_mm256_load_si256(vectors + 1), minus_zero_point);
  block.weights = vectors + 2;
  block.start = start;
  bool is_plain = has_plain_epilogue(plan.epilogue) && plan.dims.in_c >= 16 && target.pixels % 2 == 0;
  if (is_plain) {
    convolve_to_codes<kSigned, kPairs>(plan, target, taps, block);
  } else {
    convolve_to_memory<kSigned, kPairs>(plan, target, taps, block);
  }
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
  auto* copies = reinterpret_cast<std::uint8_t*>(scratch + (slots * 8 + 95) / 64 * 64);
  std::uint8_t* padding = copies + (slots * 16 + 63) / 64 * 64;
  __builtin_memset(padding, static_cast<std::uint8_t>(args.x_zero_point), static_cast<std::size_t>(d.in_c));
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  TapRow<std::uint8_t> row = {
      .dims = &d, .image = x + unit / d.out_h * d.in_h * d.in_w * d.in_c, .padding = padding, .oy = unit % d.out_h};
  for (std::int64_t ox = 0; ox < d.out_w; ox += kPixels) {
    RowTarget target = {
        .args = &args, .pixels = min_of(d.out_w - ox, kPixels), .index = (unit * d.out_w + ox) * d.out_c};
    if (d.in_c >= 16) {
      find_taps_of_pixels(row, ox, target.pixels, kPixels, pitch, taps);
    } else {
      for (std::int64_t p = 0; p < target.pixels; ++p) find_taps(row, ox + p, taps + p * pitch);
    }
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
