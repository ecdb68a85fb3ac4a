// AVX2 int8 depthwise convolution: 16 channels of a pixel at a time, two taps interleaved for `vpmaddwd`.
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/depthwise_s8_3x3_avx2.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"
#include "backends/cpu/kernels/taps_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPixels = 4;

// Adds the taps of 16 channels from `channel` on to two sums; kPairs is the number of tap pairs, or 0 to use `pairs`.
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

std::int64_t block_bytes(const ConvDims& d) {
  bool is_3x3 = d.kernel_h == 3 && d.kernel_w == 3;
  return 64 + (d.kernel_h * d.kernel_w + 1) / 2 * 64 + (is_3x3 ? 6 * 64 : 0);
}

struct BlockWeights {
  const __m256i* weights;
  __m256i initial[2];
};

struct RowTarget {
  const DepthwiseS8Args* args;
  std::int64_t pixels;
  std::int64_t index;  // of the first pixel's channel 0
  bool is_plain;       // whether all channels have a plain epilogue
};

// acc[pixel][16] of a group of pixels, 16 channels from `channel` on.
template <bool kSigned, int kPairs>
__attribute__((noinline)) void convolve_block(const std::uint8_t* const* taps, std::int64_t pixels, std::int64_t pairs,
                                              std::int64_t channel, const BlockWeights& block, std::int32_t* acc) {
  std::int64_t pitch = kPairs == 0 ? 2 * pairs : 2 * kPairs;
  for (std::int64_t p = 0; p < pixels; ++p, taps += pitch, acc += 16) {
    __m256i sums[2] = {block.initial[0], block.initial[1]};
    add_taps<kSigned, kPairs>(taps, pairs, channel, block.weights, sums);
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc), sums[0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc + 8), sums[1]);
  }
}

// Codes without residual and activation: 16 channels of pixels that are `pitch` apart.
template <bool kSigned>
__attribute__((noinline)) void store_pixels(const PlainEpilogue& plain, const std::int32_t* acc, std::int64_t pixels,
                                            std::uint8_t* out, std::int64_t pitch) {
  const auto* sums = reinterpret_cast<const __m256i*>(acc);
  for (std::int64_t p = 0; p < pixels; p += 2, out += 2 * pitch, sums += 4) {
    const __m256i* next = p + 1 < pixels ? sums + 2 : sums;
    const __m256i first[2] = {_mm256_load_si256(sums), _mm256_load_si256(sums + 1)};
    const __m256i second[2] = {_mm256_load_si256(next), _mm256_load_si256(next + 1)};
    __m256i bytes = plain_rows<kSigned, Addend::none>(plain, first, second, nullptr, nullptr);
    store_bytes(out, _mm256_castsi256_si128(bytes));
    if (next != sums) store_bytes(out + pitch, _mm256_extracti128_si256(bytes, 1));
  }
}

void store_block(const DepthwiseS8Plan& plan, const RowTarget& target, std::int64_t start, const std::int32_t* acc) {
  const ConvDims& d = plan.dims;
  const EpilogueArgs& args = target.args->epilogue;
  std::int64_t index = target.index + start;
  if (target.is_plain) {
    PlainEpilogue plain = plain_epilogue(plan.epilogue, args, start);
    auto store = plan.epilogue.out_type == DType::i8 ? store_pixels<true> : store_pixels<false>;
    return store(plain, acc, target.pixels, static_cast<std::uint8_t*>(args.out) + index, d.out_c);
  }
  TileTarget tile = {
      .rows = target.pixels, .columns = min_of(d.out_c, 16), .index = index, .pitch = d.out_c, .channel = start};
  store_tile(plan.epilogue, args, tile, acc);
}

// All channels of a group of pixels.
template <bool kSigned, int kPairs>
void convolve_pixels(const DepthwiseS8Plan& plan, const RowTarget& target, const std::uint8_t* const* taps) {
  const ConvDims& d = plan.dims;
  std::int64_t pairs = (d.kernel_h * d.kernel_w + 1) / 2;
  __m256i minus_zero_point = _mm256_set1_epi32(-target.args->x_zero_point);
  alignas(32) std::int32_t acc[kPixels * 16];
  const std::byte* packed = target.args->weights;
  for (std::int64_t channel = 0; channel < d.in_c; channel += 16, packed += block_bytes(d)) {
    const auto* vectors = reinterpret_cast<const __m256i*>(packed);
    BlockWeights block;
    block.initial[0] = _mm256_mullo_epi32(_mm256_load_si256(vectors), minus_zero_point);
    block.initial[1] = _mm256_mullo_epi32(_mm256_load_si256(vectors + 1), minus_zero_point);
    block.weights = vectors + 2;
    std::int64_t start = max_of(min_of(channel, d.in_c - 16), 0);
    convolve_block<kSigned, kPairs>(taps, target.pixels, pairs, start, block, acc);
    store_block(plan, target, start, acc);
  }
}

// Below 16 channels a whole vector would read behind the pixel: its taps are copied to 16-byte slots.
void copy_taps(const ConvDims& d, std::int64_t count, const std::uint8_t** taps, std::uint8_t* slots) {
  for (std::int64_t t = 0; t < count; ++t) {
    copy_bytes(slots + 16 * t, taps[t], d.in_c);
    taps[t] = slots + 16 * t;
  }
}

// What holds for every row.
bool is_plain_everywhere(const DepthwiseS8Plan& plan, const EpilogueArgs& args) {
  const ConvDims& d = plan.dims;
  if (plan.epilogue.has_residual || d.in_c < 16) return false;
  bool is_plain = true;
  for (std::int64_t channel = 0; channel < d.in_c; channel += 16) {
    const std::int64_t start = min_of(channel, d.in_c - 16);
    is_plain = is_plain && has_plain_epilogue(plan.epilogue, args, d.kernel_h * d.kernel_w, start, 16);
  }
  return is_plain;
}

template <bool kSigned, int kPairs>
void convolve_row(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, bool is_plain, std::int64_t unit,
                  std::byte* scratch) {
  const ConvDims& d = plan.dims;
  std::int64_t count = d.kernel_h * d.kernel_w;
  std::int64_t pitch = (count + 1) / 2 * 2;
  std::int64_t slots = kPixels * pitch;
  const auto** taps = reinterpret_cast<const std::uint8_t**>(scratch);
  auto* copies = reinterpret_cast<std::uint8_t*>(scratch + (slots * 8 + 95) / 64 * 64);
  std::uint8_t* padding = copies + (slots * 16 + 63) / 64 * 64;
  __builtin_memset(padding, static_cast<std::uint8_t>(args.x_zero_point), static_cast<std::size_t>(d.in_c));
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  TapRow row = {
      .dims = &d, .image = x + unit / d.out_h * d.in_h * d.in_w * d.in_c, .padding = padding, .oy = unit % d.out_h};
  for (std::int64_t ox = 0; ox < d.out_w; ox += kPixels) {
    RowTarget target = {.args = &args,
                        .pixels = min_of(d.out_w - ox, kPixels),
                        .index = (unit * d.out_w + ox) * d.out_c,
                        .is_plain = is_plain};
    if (d.in_c >= 16) {
      find_taps_of_pixels(row, ox, target.pixels, kPixels, pitch, taps);
    } else {
      for (std::int64_t p = 0; p < target.pixels; ++p) find_taps(row, ox + p, taps + p * pitch);
    }
    if (count != pitch) {
      for (std::int64_t p = 0; p < target.pixels; ++p) taps[p * pitch + count] = taps[p * pitch];
    }
    if (d.in_c < 16) copy_taps(d, target.pixels * pitch, taps, copies);
    convolve_pixels<kSigned, kPairs>(plan, target, taps);
  }
}

RowTriple find_rows(const ConvDims& d, const std::uint8_t* image, std::int64_t oy, const std::uint8_t* padding) {
  RowTriple x;
  x.padding = padding;
  x.first = -d.pad_left;
  x.width = d.in_w;
  for (std::int64_t r = 0; r < 3; ++r) {
    std::int64_t iy = oy * d.stride_h - d.pad_top + r;
    bool inside = iy >= 0 && iy < d.in_h;
    x.rows[r] = inside ? image + iy * d.in_w * d.in_c : padding;
    x.steps[r] = inside ? d.in_c : 0;
  }
  return x;
}

template <bool kSigned>
void convolve_row_3x3(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, bool is_plain, std::int64_t unit,
                      std::byte* scratch) {
  const ConvDims& d = plan.dims;
  auto* acc = reinterpret_cast<std::int32_t*>(scratch);
  auto* padding = reinterpret_cast<std::uint8_t*>(scratch + d.out_w * 64);
  __builtin_memset(padding, static_cast<std::uint8_t>(args.x_zero_point), static_cast<std::size_t>(d.in_c));
  const auto* image = static_cast<const std::uint8_t*>(args.x) + unit / d.out_h * d.in_h * d.in_w * d.in_c;
  RowTriple x = find_rows(d, image, unit % d.out_h, padding);
  RowTarget target = {.args = &args, .pixels = d.out_w, .index = unit * d.out_w * d.out_c, .is_plain = is_plain};
  __m256i minus_zero_point = _mm256_set1_epi32(-args.x_zero_point);
  auto convolve = d.stride_w == 1 ? convolve_3x3_stride_1<kSigned> : convolve_3x3_stride_2<kSigned>;
  const std::byte* packed = args.weights;
  for (std::int64_t channel = 0; channel < d.in_c; channel += 16, packed += block_bytes(d)) {
    const auto* vectors = reinterpret_cast<const __m256i*>(packed);
    Sums initial = {_mm256_mullo_epi32(_mm256_load_si256(vectors), minus_zero_point),
                    _mm256_mullo_epi32(_mm256_load_si256(vectors + 1), minus_zero_point)};
    std::int64_t start = min_of(channel, d.in_c - 16);
    convolve(x, start, vectors + 12, initial, d.out_w, acc);
    store_block(plan, target, start, acc);
  }
}

template <bool kSigned>
void convolve_rows(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                   std::int64_t unit_end, std::byte* scratch) {
  std::int64_t pairs = (plan.dims.kernel_h * plan.dims.kernel_w + 1) / 2;
  auto row = pairs == 5 ? convolve_row<kSigned, 5> : convolve_row<kSigned, 0>;
  if (plan.shares_columns) row = convolve_row_3x3<kSigned>;
  const bool is_plain = is_plain_everywhere(plan, args.epilogue);
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) row(plan, args, is_plain, unit, scratch);
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
