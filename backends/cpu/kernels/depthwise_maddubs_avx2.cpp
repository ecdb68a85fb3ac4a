// The kernel of depthwise_maddubs.h: 32 channels of a pixel at a time, from bytes to codes in registers.
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/depthwise_maddubs.h"
#include "backends/cpu/kernels/entry_avx2.h"

namespace aoq::cpu {
namespace {

#define AOQ_INLINE inline __attribute__((always_inline))

constexpr std::int64_t kBlock = 32;
constexpr int kVectors = 4;  // of eight sums

// What a block of channels needs besides the image. Codes are made as u8, signed ones with a zero point 128 higher.
struct Block {
  const __m256i* weights;
  __m256i starts[kVectors];
  __m256 bias[kVectors];
  __m256 multiplier[kVectors];
  __m256i zero_point, least, most, flip;
  __m256i x_flip;
};

// One output row of a block.
struct RowJob {
  const std::uint8_t* rows[5];  // image rows, at the block's first channel; padding outside of the image
  const std::uint8_t* padding;
  std::int64_t channels, stride;
  std::int64_t first;          // image column of the first kernel column of output pixel 0, may be negative
  std::int64_t width, pixels;  // of the image row, of the output row
  std::uint8_t* out;
};

// Channels 4 * v to 4 * v + 3 of both halves of a block.
inline __m256 spread(const float* values, int v) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(values + 4 * v)), _mm_loadu_ps(values + 16 + 4 * v),
                              1);
}

Block block_of(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t index, std::int64_t start) {
  const EpilogueS8& e = plan.epilogue;
  const auto* packed = reinterpret_cast<const __m256i*>(args.weights + index * plan.block_bytes);
  const std::int32_t x_flip = plan.x_type == DType::i8 ? 128 : 0, flip = e.out_type == DType::i8 ? 128 : 0;
  const std::int32_t zero_point = e.bounds.zero_point + flip;
  Block block;
  block.weights = packed + kVectors;
  for (int v = 0; v < kVectors; ++v) {
    const __m256i sums = _mm256_load_si256(packed + v);
    block.starts[v] = _mm256_mullo_epi32(sums, _mm256_set1_epi32(-(args.x_zero_point + x_flip)));
    block.bias[v] = spread(args.epilogue.bias + start, v);
    block.multiplier[v] = spread(args.epilogue.multiplier + start, v);
  }
  block.zero_point = _mm256_set1_epi16(static_cast<short>(zero_point));
  block.least = _mm256_set1_epi8(static_cast<char>(static_cast<int>(e.bounds.lo) + zero_point));
  block.most = _mm256_set1_epi8(static_cast<char>(static_cast<int>(e.bounds.hi) + zero_point));
  block.flip = _mm256_set1_epi8(static_cast<char>(flip));
  block.x_flip = _mm256_set1_epi8(static_cast<char>(x_flip));
  return block;
}

// Keeps the order of additions, and with it sums in registers.
AOQ_INLINE void add_s16_in_place(__m256i& sum, __m256i product) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
}

// Loads once: as operands in memory what is used twice would be loaded twice, and loads are scarce here.
AOQ_INLINE __m256i load_once(const void* p) {
  __m256i v = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  asm("" : "+x"(v));
  return v;
}

template <bool kFlips>
AOQ_INLINE __m256i load_tap(const Block& block, const std::uint8_t* tap) {
  const __m256i x = load_once(tap);
  return kFlips ? _mm256_xor_si256(x, block.x_flip) : x;
}

// Sums in 16 bits of pairs [kFirst, kEnd) of taps, of P pixels: of l in channels 0-7 | 16-23, and 8-15 | 24-31, and of
// h alike. Taps answers where tap t of pixel p lies.
template <int P, int kTaps, int kFirst, int kEnd, bool kFlips, typename Taps>
AOQ_INLINE void add_pairs(const Block& block, const Taps& taps, __m256i (&sum)[P][kVectors]) {
#pragma GCC unroll 8
  for (int pair = kFirst; pair < kEnd; ++pair) {
    __m256i both[P][2];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const __m256i a = load_tap<kFlips>(block, taps(p, 2 * pair));
      const __m256i b = 2 * pair + 1 < kTaps ? load_tap<kFlips>(block, taps(p, 2 * pair + 1)) : a;
      both[p][0] = _mm256_unpacklo_epi8(a, b);
      both[p][1] = _mm256_unpackhi_epi8(a, b);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m256i w = load_once(block.weights + 4 * pair + v);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const __m256i product = _mm256_maddubs_epi16(both[p][v % 2], w);
        if (pair == kFirst) {
          sum[p][v] = product;
        } else {
          add_s16_in_place(sum[p][v], product);
        }
      }
    }
  }
}

// Adds low + 16 * high to sums in 32 bits.
AOQ_INLINE void join_parts(const __m256i (&parts)[kVectors], __m256i (&sum)[kVectors]) {
  const __m256i factors = _mm256_set1_epi32(1 | 16 << 16);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m256i low = parts[half], high = parts[2 + half];
    __m256i& first = sum[2 * half];
    __m256i& second = sum[2 * half + 1];
    first = _mm256_add_epi32(first, _mm256_madd_epi16(_mm256_unpacklo_epi16(low, high), factors));
    second = _mm256_add_epi32(second, _mm256_madd_epi16(_mm256_unpackhi_epi16(low, high), factors));
  }
}

// Sums to codes, as plain_rows of epilogue_s8_avx2.h.
AOQ_INLINE __m256i codes_of(const Block& block, const __m256i (&sum)[kVectors]) {
  __m256i rounded[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m256 shifted = _mm256_add_ps(_mm256_cvtepi32_ps(sum[v]), block.bias[v]);
    rounded[v] = _mm256_cvtps_epi32(_mm256_mul_ps(shifted, block.multiplier[v]));
  }
  const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), block.zero_point);
  const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(rounded[2], rounded[3]), block.zero_point);
  const __m256i clamped = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(low, high), block.least), block.most);
  return _mm256_xor_si256(clamped, block.flip);
}

// K x K taps of 32 channels of P pixels, `pitch` bytes apart in out.
template <int P, int K, bool kFlips, typename Taps>
AOQ_INLINE void convolve_pixels(const Block& block, const Taps& taps, std::uint8_t* out, std::int64_t pitch) {
  constexpr int kTaps = K * K, kPairs = (kTaps + 1) / 2, kMostPairs = 8;
  constexpr int kMiddle = kPairs <= kMostPairs ? kPairs : (kPairs + 1) / 2;
  __m256i parts[P][kVectors], sum[P][kVectors];
  add_pairs<P, kTaps, 0, kMiddle, kFlips>(block, taps, parts);
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[p][v] = block.starts[v];
    join_parts(parts[p], sum[p]);
  }
  if constexpr (kMiddle < kPairs) {
    add_pairs<P, kTaps, kMiddle, kPairs, kFlips>(block, taps, parts);
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) join_parts(parts[p], sum[p]);
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + p * pitch), codes_of(block, sum[p]));
  }
}

// A pixel that the image's left or right border crosses.
template <int K, bool kFlips>
__attribute__((noinline)) void convolve_border(const Block& block, const RowJob& job, std::int64_t pixel) {
  const std::uint8_t* taps[K * K];
  for (int t = 0; t < K * K; ++t) {
    const std::int64_t ix = job.first + pixel * job.stride + t % K;
    taps[t] = ix >= 0 && ix < job.width ? job.rows[t / K] + ix * job.channels : job.padding;
  }
  convolve_pixels<1, K, kFlips>(block, [&](int, int t) { return taps[t]; }, job.out + pixel * job.channels, 0);
}

template <int K, bool kFlips>
__attribute__((noinline)) void convolve_inner(const Block& block, const RowJob& job, std::int64_t begin,
                                              std::int64_t end) {
  const std::int64_t channels = job.channels, step = job.stride * channels;
  const std::uint8_t* rows[K];
#pragma GCC unroll 5
  for (int r = 0; r < K; ++r) rows[r] = job.rows[r] + job.first * channels + begin * step;
  auto tap = [&](int p, int t) { return rows[t / K] + t % K * channels + p * step; };
  std::uint8_t* out = job.out + begin * channels;
  std::int64_t pixel = begin;
  for (; pixel + 2 <= end; pixel += 2, out += 2 * channels) {
    convolve_pixels<2, K, kFlips>(block, tap, out, channels);
#pragma GCC unroll 5
    for (int r = 0; r < K; ++r) rows[r] += 2 * step;
  }
  if (pixel < end) convolve_pixels<1, K, kFlips>(block, tap, out, channels);
}

template <int K, bool kFlips>
void convolve_row(const Block& block, const RowJob& job) {
  // Pixels [begin, end) have all columns inside of the image.
  const std::int64_t begin = min_of((max_of(-job.first, 0) + job.stride - 1) / job.stride, job.pixels);
  const std::int64_t last = job.width - K - job.first;
  const std::int64_t end = last < 0 ? begin : max_of(min_of(last / job.stride + 1, job.pixels), begin);
  for (std::int64_t pixel = 0; pixel < begin; ++pixel) convolve_border<K, kFlips>(block, job, pixel);
  convolve_inner<K, kFlips>(block, job, begin, end);
  for (std::int64_t pixel = end; pixel < job.pixels; ++pixel) convolve_border<K, kFlips>(block, job, pixel);
}

// Output row `unit` of the batch, channels from `start` on; `padding` is a row of pixels that are the code of zero.
RowJob job_of(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit, std::int64_t start,
              const std::uint8_t* padding) {
  const ConvDims& d = plan.dims;
  const std::int64_t row_bytes = d.in_w * d.in_c, image = unit / d.out_h;
  const auto* x = static_cast<const std::uint8_t*>(args.x) + image * d.in_h * row_bytes;
  RowJob job = {};
  for (std::int64_t r = 0; r < d.kernel_h; ++r) {
    const std::int64_t iy = unit % d.out_h * d.stride_h - d.pad_top + r;
    job.rows[r] = (iy >= 0 && iy < d.in_h ? x + iy * row_bytes : padding) + start;
  }
  job.padding = padding + start;
  job.channels = d.in_c;
  job.stride = d.stride_w;
  job.first = -d.pad_left;
  job.width = d.in_w;
  job.pixels = d.out_w;
  job.out = static_cast<std::uint8_t*>(args.epilogue.out) + unit * d.out_w * d.in_c + start;
  return job;
}

template <int K, bool kFlips>
void convolve_rows(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                   std::int64_t unit_end, const std::uint8_t* padding) {
  for (std::int64_t first = unit_begin; first < unit_end; first += plan.row_block) {
    for (std::int64_t index = 0; index < plan.blocks; ++index) {
      const std::int64_t start = min_of(index * kBlock, plan.dims.in_c - kBlock);
      const Block block = block_of(plan, args, index, start);
      for (std::int64_t unit = first; unit < min_of(first + plan.row_block, unit_end); ++unit) {
        convolve_row<K, kFlips>(block, job_of(plan, args, unit, start, padding));
      }
    }
  }
}

}  // namespace

void run_depthwise_maddubs_avx2(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                std::int64_t unit_end, std::byte* scratch) {
  const bool flips = plan.x_type == DType::i8, is_3x3 = plan.dims.kernel_w == 3;
  __builtin_memset(scratch, static_cast<std::uint8_t>(args.x_zero_point),
                   static_cast<std::size_t>(plan.dims.in_w * plan.dims.in_c));
  auto run = is_3x3 ? (flips ? convolve_rows<3, true> : convolve_rows<3, false>)
                    : (flips ? convolve_rows<5, true> : convolve_rows<5, false>);
  run(plan, args, unit_begin, unit_end, reinterpret_cast<const std::uint8_t*>(scratch));
}

}  // namespace aoq::cpu
