// The kernel of depthwise_maddubs.h: 32 channels of a pixel at a time, from bytes to codes in registers. 5x5 kernels,
// which touch a pixel many times, copy image rows first: a block's channels of a row next to each other, on whole lines
// and with its padding. 3x3 ones read them where they are.
#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/depthwise_maddubs.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"

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

// Rows [begin, end) of the batch's output, of block `index` of channels, from channel `start` on.
struct BlockRows {
  std::int64_t index, start, begin, end;
};

// One output row of a block, for 3x3 kernels.
struct RowJob {
  const std::uint8_t* rows[3];  // image rows, at the block's first channel; padding outside of the image
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

// Keeps instructions in the order in which they are written. Left alone, those that round a pixel come together, wait
// for each other and fill the processor's window, and the next pixel's products have to wait with them.
AOQ_INLINE void stay_here(__m256i& v) {
  asm volatile("" : "+x"(v));
}

AOQ_INLINE void add_s16_in_place(__m256i& sum, __m256i product) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
}

// The sums of a pixel on their way to codes, as plain_rows of epilogue_s8_avx2.h makes them, in kSteps steps.
struct Rounding {
  static constexpr int kSteps = 5;

  __m256i sums[kVectors];
  std::uint8_t* out;

  // kWhole: see has_whole_codes.
  template <int kStep, bool kWhole>
  AOQ_INLINE void step(const Block& block) {
    if constexpr (kStep == kSteps - 1) return store<kWhole>(block);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m256 floats = _mm256_castsi256_ps(sums[v]);
      if constexpr (kStep == 0) sums[v] = _mm256_castps_si256(_mm256_cvtepi32_ps(sums[v]));
      if constexpr (kStep == 1) sums[v] = _mm256_castps_si256(_mm256_add_ps(floats, block.bias[v]));
      if constexpr (kStep == 2) sums[v] = _mm256_castps_si256(_mm256_mul_ps(floats, block.multiplier[v]));
      if constexpr (kStep == 3) sums[v] = _mm256_cvtps_epi32(floats);
      stay_here(sums[v]);
    }
  }

 private:
  template <bool kWhole>
  AOQ_INLINE void store(const Block& block) const {
    __m256i low = _mm256_packs_epi32(sums[0], sums[1]), high = _mm256_packs_epi32(sums[2], sums[3]);
    if constexpr (!kWhole) {
      low = _mm256_adds_epi16(low, block.zero_point);
      high = _mm256_adds_epi16(high, block.zero_point);
    }
    __m256i codes = _mm256_packus_epi16(low, high);
    if constexpr (!kWhole) {
      codes = _mm256_xor_si256(_mm256_min_epu8(_mm256_max_epu8(codes, block.least), block.most), block.flip);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), codes);
  }
};

template <bool kFlips>
AOQ_INLINE __m256i load_tap(const Block& block, const std::uint8_t* tap) {
  __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tap));
  asm("" : "+x"(x));  // loaded once, although it is used twice
  return kFlips ? _mm256_xor_si256(x, block.x_flip) : x;
}

// Pair `kPair` of taps: adds to the sums in 16 bits of l in channels 0-7 | 16-23, and 8-15 | 24-31, and of h alike, or
// begins them. Taps answers where tap t lies.
template <int kTaps, int kPair, bool kBegins, bool kFlips, typename Taps>
AOQ_INLINE void add_pair(const Block& block, const Taps& taps, __m256i (&sum)[kVectors]) {
  const __m256i a = load_tap<kFlips>(block, taps(2 * kPair));
  const __m256i b = 2 * kPair + 1 < kTaps ? load_tap<kFlips>(block, taps(2 * kPair + 1)) : a;
  const __m256i both[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m256i product = _mm256_maddubs_epi16(both[v % 2], _mm256_load_si256(block.weights + 4 * kPair + v));
    if constexpr (kBegins) {
      sum[v] = product;
      stay_here(sum[v]);
    } else {
      add_s16_in_place(sum[v], product);
    }
  }
}

// Pairs [kPair, kEnd), and between them step kStep of the last pixel's rounding and those that follow.
template <int kTaps, int kPair, int kEnd, bool kBegins, int kStep, bool kFlips, bool kWhole, typename Taps>
AOQ_INLINE void add_pairs(const Block& block, const Taps& taps, __m256i (&sum)[kVectors], Rounding& last) {
  if constexpr (kPair < kEnd) {
    add_pair<kTaps, kPair, kBegins, kFlips>(block, taps, sum);
    if constexpr (kStep < Rounding::kSteps) last.step<kStep, kWhole>(block);
    add_pairs<kTaps, kPair + 1, kEnd, false, kStep + 1, kFlips, kWhole>(block, taps, sum, last);
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

// K x K taps of 32 channels of a pixel, while the last one is rounded: afterwards `last` is this one.
template <int K, bool kFlips, bool kWhole, typename Taps>
AOQ_INLINE void convolve_pixel(const Block& block, const Taps& taps, std::uint8_t* out, Rounding& last) {
  constexpr int kTaps = K * K, kPairs = (kTaps + 1) / 2, kMostPairs = 8;
  constexpr int kMiddle = kPairs <= kMostPairs ? kPairs : (kPairs + 1) / 2;
  __m256i parts[kVectors];
  add_pairs<kTaps, 0, kMiddle, true, 0, kFlips, kWhole>(block, taps, parts, last);
  last.out = out;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) last.sums[v] = block.starts[v];
  join_parts(parts, last.sums);
  if constexpr (kMiddle < kPairs) {
    add_pairs<kTaps, kMiddle, kPairs, true, Rounding::kSteps, kFlips, kWhole>(block, taps, parts, last);
    join_parts(parts, last.sums);
  }
}

template <bool kWhole, int kStep = 0>
AOQ_INLINE void finish(const Block& block, Rounding& last) {
  if constexpr (kStep < Rounding::kSteps) {
    last.step<kStep, kWhole>(block);
    finish<kWhole, kStep + 1>(block, last);
  }
}

// A pixel that the image's left or right border crosses.
template <bool kFlips, bool kWhole>
__attribute__((noinline)) void convolve_border(const Block& block, const RowJob& job, std::int64_t pixel) {
  const std::uint8_t* taps[9];
  for (int t = 0; t < 9; ++t) {
    const std::int64_t ix = job.first + pixel * job.stride + t % 3;
    taps[t] = ix >= 0 && ix < job.width ? job.rows[t / 3] + ix * job.channels : job.padding;
  }
  // What is rounded meanwhile is overwritten.
  Rounding last = {.sums = {}, .out = job.out + pixel * job.channels};
  convolve_pixel<3, kFlips, kWhole>(block, [&](int t) { return taps[t]; }, last.out, last);
  finish<kWhole>(block, last);
}

template <bool kFlips, bool kWhole>
__attribute__((noinline)) void convolve_inner(const Block& block, const RowJob& job, std::int64_t begin,
                                              std::int64_t end) {
  const std::int64_t channels = job.channels, step = job.stride * channels;
  const std::uint8_t* rows[3];
#pragma GCC unroll 3
  for (int r = 0; r < 3; ++r) rows[r] = job.rows[r] + job.first * channels + begin * step;
  if (begin >= end) return;
  auto tap = [&](int t) { return rows[t / 3] + t % 3 * channels; };
  std::uint8_t* out = job.out + begin * channels;
  // What is rounded during the first pixel is overwritten.
  Rounding last = {.sums = {}, .out = out};
  for (std::int64_t pixel = begin; pixel < end; ++pixel, out += channels) {
    convolve_pixel<3, kFlips, kWhole>(block, tap, out, last);
#pragma GCC unroll 3
    for (int r = 0; r < 3; ++r) rows[r] += step;
  }
  finish<kWhole>(block, last);
}

template <bool kFlips, bool kWhole>
void convolve_row(const Block& block, const RowJob& job) {
  // Pixels [begin, end) have all columns inside of the image.
  const std::int64_t begin = min_of((max_of(-job.first, 0) + job.stride - 1) / job.stride, job.pixels);
  const std::int64_t last = job.width - 3 - job.first;
  const std::int64_t end = last < 0 ? begin : max_of(min_of(last / job.stride + 1, job.pixels), begin);
  for (std::int64_t pixel = 0; pixel < begin; ++pixel) convolve_border<kFlips, kWhole>(block, job, pixel);
  convolve_inner<kFlips, kWhole>(block, job, begin, end);
  for (std::int64_t pixel = end; pixel < job.pixels; ++pixel) convolve_border<kFlips, kWhole>(block, job, pixel);
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

template <bool kFlips, bool kWhole>
void convolve_3x3(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, const BlockRows& rows,
                  const std::byte* padding) {
  const Block block = block_of(plan, args, rows.index, rows.start);
  for (std::int64_t unit = rows.begin; unit < rows.end; ++unit) {
    convolve_row<kFlips, kWhole>(block,
                                 job_of(plan, args, unit, rows.start, reinterpret_cast<const std::uint8_t*>(padding)));
  }
}

// Copies of the image rows of an output row, [columns][32] codes of u8.
struct CopiedRows {
  const std::uint8_t* row[5];
};

// Copies each image row once while output rows follow each other, of 32 channels.
class RowRing {
 public:
  RowRing(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t channel, std::byte* memory)
      : dims_(plan.dims),
        x_(static_cast<const std::uint8_t*>(args.x)),
        memory_(reinterpret_cast<std::uint8_t*>(memory)),
        columns_((plan.dims.out_w - 1) * plan.dims.stride_w + plan.dims.kernel_w),
        flip_(_mm256_set1_epi8(static_cast<char>(plan.x_type == DType::i8 ? 128 : 0))),
        padding_(_mm256_xor_si256(_mm256_set1_epi8(static_cast<char>(args.x_zero_point)), flip_)),
        channel_(channel) {}

  // The image rows of row `unit` of the batch's output.
  CopiedRows rows_of(std::int64_t unit) {
    const std::int64_t image = unit / dims_.out_h, first = unit % dims_.out_h * dims_.stride_h - dims_.pad_top;
    if (image != image_) next_ = first;
    image_ = image;
    const std::int64_t end = first + dims_.kernel_h;
    for (next_ = max_of(next_, first); next_ < end; ++next_) copy_row(next_, place_of(next_));
    CopiedRows rows;
    for (int r = 0; r < 5; ++r) rows.row[r] = place_of(first + r);
    return rows;
  }

 private:
  std::uint8_t* place_of(std::int64_t iy) const {
    return memory_ + (iy + dims_.pad_top) % dims_.kernel_h * columns_ * kBlock;
  }

  // Row `iy` of the image, or padding, as codes of u8.
  void copy_row(std::int64_t iy, std::uint8_t* to) const {
    const std::int64_t width = iy >= 0 && iy < dims_.in_h ? dims_.in_w : 0;
    const std::int64_t begin = min_of(dims_.pad_left, columns_);
    const std::int64_t end = max_of(min_of(dims_.pad_left + width, columns_), begin);
    auto* line = reinterpret_cast<__m256i*>(to);
    for (std::int64_t c = 0; c < begin; ++c) _mm256_store_si256(line++, padding_);
    const std::uint8_t* from = x_ + (begin < end ? (image_ * dims_.in_h + iy) * dims_.in_w * dims_.in_c + channel_ : 0);
    for (std::int64_t c = begin; c < end; ++c, from += dims_.in_c) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      _mm256_store_si256(line++, _mm256_xor_si256(x, flip_));
    }
    for (std::int64_t c = end; c < columns_; ++c) _mm256_store_si256(line++, padding_);
  }

  const ConvDims& dims_;
  const std::uint8_t* x_;
  std::uint8_t* memory_;
  std::int64_t columns_;
  __m256i flip_, padding_;
  std::int64_t channel_, image_ = -1, next_ = 0;  // the next row to copy
};

template <bool kWhole>
__attribute__((noinline)) void convolve_copied_row(const Block& block, const CopiedRows& copied, std::int64_t step,
                                                   std::int64_t pixels, std::uint8_t* out, std::int64_t pitch) {
  CopiedRows rows = copied;
  auto tap = [&](int t) { return rows.row[t / 5] + t % 5 * kBlock; };
  // What is rounded during the first pixel is overwritten.
  Rounding last = {.sums = {}, .out = out};
  for (std::int64_t left = pixels; left > 0; --left, out += pitch) {
    convolve_pixel<5, false, kWhole>(block, tap, out, last);
#pragma GCC unroll 5
    for (int r = 0; r < 5; ++r) rows.row[r] += step;
  }
  finish<kWhole>(block, last);
}

template <bool kWhole>
void convolve_5x5(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, const BlockRows& rows,
                  std::byte* memory) {
  const ConvDims& d = plan.dims;
  const Block block = block_of(plan, args, rows.index, rows.start);
  RowRing ring(plan, args, rows.start, memory);
  for (std::int64_t unit = rows.begin; unit < rows.end; ++unit) {
    std::uint8_t* out = static_cast<std::uint8_t*>(args.epilogue.out) + unit * d.out_w * d.out_c + rows.start;
    convolve_copied_row<kWhole>(block, ring.rows_of(unit), d.stride_w * kBlock, d.out_w, out, d.out_c);
  }
}

}  // namespace

void run_depthwise_maddubs_avx2(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                std::int64_t unit_end, std::byte* scratch) {
  const bool flips = plan.x_type == DType::i8, is_3x3 = plan.dims.kernel_w == 3;
  const bool is_whole = has_whole_codes(plan.epilogue);
  if (is_3x3) {
    __builtin_memset(scratch, static_cast<std::uint8_t>(args.x_zero_point),
                     static_cast<std::size_t>(plan.dims.in_w * plan.dims.in_c));
  }
  for (std::int64_t first = unit_begin; first < unit_end; first += plan.row_block) {
    for (std::int64_t index = 0; index < plan.blocks; ++index) {
      const BlockRows rows = {index, min_of(index * kBlock, plan.dims.in_c - kBlock), first,
                              min_of(first + plan.row_block, unit_end)};
      if (is_3x3) {
        const auto run = flips ? (is_whole ? convolve_3x3<true, true> : convolve_3x3<true, false>)
                               : (is_whole ? convolve_3x3<false, true> : convolve_3x3<false, false>);
        run(plan, args, rows, scratch);
      } else {
        (is_whole ? convolve_5x5<true> : convolve_5x5<false>)(plan, args, rows, scratch);
      }
    }
  }
}

}  // namespace aoq::cpu
