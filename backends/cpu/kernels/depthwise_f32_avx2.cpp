// AVX2 f32 depthwise convolution: 4 pixels x 16 channels, so that a tap's weights serve four pixels and, where the
// kernel's columns are dense, a column of the input serves every pixel that it belongs to.
#include "backends/cpu/kernels/depthwise_columns_f32.h"
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPixels = 4;

// What up to four neighbouring pixels read. Kernel row i finds column j of pixel p behind
// columns[i * pitch + p * stride + j * dilation]; columns in the padding are zeros.
struct Taps {
  const float* const* columns;
  std::int64_t pitch;
  std::int64_t kernel_h, kernel_w;
  std::int64_t stride, dilation;
  const float* weights;  // of the block's first channel
  std::int64_t weight_pitch;
  std::int64_t channel;
};

// Any kernel.
template <int kCount, int kHalves>
struct PlainTaps {
  static void add(const Taps& taps, __m256 (&sum)[kCount][kHalves]) {
    const float* weights = taps.weights;
    for (std::int64_t i = 0; i < taps.kernel_h; ++i) {
      for (std::int64_t j = 0; j < taps.kernel_w; ++j, weights += taps.weight_pitch) {
        const float* const* column = taps.columns + i * taps.pitch + j * taps.dilation;
        __m256 w[kHalves];
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) w[h] = _mm256_loadu_ps(weights + 8 * h);
#pragma GCC unroll 4
        for (int p = 0; p < kCount; ++p) {
          const float* x = column[p * taps.stride] + taps.channel;
#pragma GCC unroll 2
          for (int h = 0; h < kHalves; ++h) sum[p][h] = _mm256_fmadd_ps(_mm256_loadu_ps(x + 8 * h), w[h], sum[p][h]);
        }
      }
    }
  }
};

// kWidth dense columns: each is loaded once. A pixel still gets its products from left to right.
template <int kCount, int kHalves, int kWidth, int kStride>
struct SharedTaps {
  static void add(const Taps& taps, __m256 (&sum)[kCount][kHalves]) {
    constexpr int kColumns = (kCount - 1) * kStride + kWidth;
    const float* weights = taps.weights;
    for (std::int64_t i = 0; i < taps.kernel_h; ++i, weights += kWidth * taps.weight_pitch) {
      const float* const* columns = taps.columns + i * taps.pitch;
      __m256 w[kWidth][kHalves];
#pragma GCC unroll 5
      for (int j = 0; j < kWidth; ++j) {
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) w[j][h] = _mm256_loadu_ps(weights + j * taps.weight_pitch + 8 * h);
      }
#pragma GCC unroll 11
      for (int c = 0; c < kColumns; ++c) {
        const float* x = columns[c] + taps.channel;
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) {
          __m256 value = _mm256_loadu_ps(x + 8 * h);
#pragma GCC unroll 4
          for (int p = 0; p < kCount; ++p) {
            int j = c - p * kStride;
            if (j >= 0 && j < kWidth) sum[p][h] = _mm256_fmadd_ps(value, w[j][h], sum[p][h]);
          }
        }
      }
    }
  }
};

// The whole of kCount pixels and 8 * kHalves channels. `target` is null where store_tile_f32 finishes acc[pixel][16].
template <int kCount, int kHalves, typename AddTaps>
void convolve_tile(const Taps& taps, float* acc, const ClampedTarget* target) {
  __m256 sum[kCount][kHalves];
#pragma GCC unroll 4
  for (int p = 0; p < kCount; ++p) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) sum[p][h] = _mm256_setzero_ps();
  }
  AddTaps::add(taps, sum);
  if (target != nullptr) return store_clamped(*target, sum);
#pragma GCC unroll 4
  for (int p = 0; p < kCount; ++p) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) _mm256_store_ps(acc + 16 * p + 8 * h, sum[p][h]);
  }
}

using ConvolveTile = void (*)(const Taps&, float*, const ClampedTarget*);

// By pixels - 1 and halves - 1.
struct TileTable {
  ConvolveTile of[kPixels][2];
};

template <template <int, int> typename AddTaps>
constexpr TileTable tiles_of() {
  return {{{convolve_tile<1, 1, AddTaps<1, 1>>, convolve_tile<1, 2, AddTaps<1, 2>>},
           {convolve_tile<2, 1, AddTaps<2, 1>>, convolve_tile<2, 2, AddTaps<2, 2>>},
           {convolve_tile<3, 1, AddTaps<3, 1>>, convolve_tile<3, 2, AddTaps<3, 2>>},
           {convolve_tile<4, 1, AddTaps<4, 1>>, convolve_tile<4, 2, AddTaps<4, 2>>}}};
}

template <int kCount, int kHalves>
using Taps3 = SharedTaps<kCount, kHalves, 3, 1>;
template <int kCount, int kHalves>
using Taps3Stride2 = SharedTaps<kCount, kHalves, 3, 2>;
template <int kCount, int kHalves>
using Taps5 = SharedTaps<kCount, kHalves, 5, 1>;
template <int kCount, int kHalves>
using Taps5Stride2 = SharedTaps<kCount, kHalves, 5, 2>;

constexpr TileTable kPlain = tiles_of<PlainTaps>();
constexpr TileTable kShared3 = tiles_of<Taps3>();
constexpr TileTable kShared3Stride2 = tiles_of<Taps3Stride2>();
constexpr TileTable kShared5 = tiles_of<Taps5>();
constexpr TileTable kShared5Stride2 = tiles_of<Taps5Stride2>();

const TileTable& tiles_for(const ConvDims& d) {
  if (d.dilation_w != 1 || d.stride_w > 2) return kPlain;
  if (d.kernel_w == 3) return d.stride_w == 1 ? kShared3 : kShared3Stride2;
  if (d.kernel_w == 5) return d.stride_w == 1 ? kShared5 : kShared5Stride2;
  return kPlain;
}

// Any number of channels up to 16; the rest of a pixel's memory is not touched.
void convolve_tail(const Taps& taps, const TargetF32& target, float* acc) {
  for (std::int64_t p = 0; p < target.rows; ++p) {
    F32x8 low(0.0f);
    F32x8 high(0.0f);
    const float* weights = taps.weights;
    for (std::int64_t i = 0; i < taps.kernel_h; ++i) {
      for (std::int64_t j = 0; j < taps.kernel_w; ++j, weights += taps.weight_pitch) {
        const float* x = taps.columns[i * taps.pitch + p * taps.stride + j * taps.dilation] + taps.channel;
        low = fma_of(load_first(x, target.columns), load(weights), low);
        if (target.columns > 8) high = fma_of(load_first(x + 8, target.columns - 8), load(weights + 8), high);
      }
    }
    store(acc + 16 * p, low);
    store(acc + 16 * p + 8, high);
  }
}

void convolve_block(const EpilogueF32& epilogue, const TileTable& tiles, const Taps& taps, const TargetF32& target) {
  alignas(32) float acc[kPixels * 16];
  if (target.columns != 16 && target.columns != 8) {
    convolve_tail(taps, target, acc);
    return store_tile_f32(epilogue, target, acc);
  }
  ConvolveTile tile = tiles.of[target.rows - 1][target.columns / 8 - 1];
  if (!is_clamped(epilogue, target.columns)) {
    tile(taps, acc, nullptr);
    return store_tile_f32(epilogue, target, acc);
  }
  ClampedTarget clamped = clamped_target(epilogue, target, 0);
  tile(taps, acc, &clamped);
}

void convolve_row(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit, std::byte* scratch) {
  const ConvDims& d = plan.dims;
  const TileTable& tiles = tiles_for(d);
  auto* zeros = reinterpret_cast<float*>(scratch);
  zero_floats(zeros, d.in_c);
  auto** columns = reinterpret_cast<const float**>(scratch + (d.in_c * 4 + 63) / 64 * 64);
  find_columns(d, args.x + unit / d.out_h * d.in_h * d.in_w * d.in_c, zeros, unit % d.out_h, columns);
  Taps taps = {.pitch = depthwise_columns(d),
               .kernel_h = d.kernel_h,
               .kernel_w = d.kernel_w,
               .stride = d.stride_w,
               .dilation = d.dilation_w,
               .weight_pitch = (d.in_c + 15) / 16 * 16};
  for (std::int64_t ox = 0; ox < d.out_w; ox += kPixels) {
    taps.columns = columns + ox * d.stride_w;
    for (taps.channel = 0; taps.channel < d.in_c; taps.channel += 16) {
      std::int64_t at = (unit * d.out_w + ox) * d.out_c + taps.channel;
      taps.weights = reinterpret_cast<const float*>(args.weights) + taps.channel;
      TargetF32 target = {.rows = min_of(d.out_w - ox, kPixels),
                          .columns = min_of(d.out_c - taps.channel, 16),
                          .pitch = d.out_c,
                          .bias = plan.epilogue.has_bias ? args.bias + taps.channel : nullptr,
                          .residual = plan.epilogue.has_residual ? args.residual + at : nullptr,
                          .out = args.out + at};
      convolve_block(plan.epilogue, tiles, taps, target);
    }
  }
}

}  // namespace

void run_depthwise_f32_avx2(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch) {
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) convolve_row(plan, args, unit, scratch);
}

}  // namespace aoq::cpu
