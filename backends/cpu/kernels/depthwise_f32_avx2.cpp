// AVX2 f32 depthwise convolution: 4 pixels x 16 channels, so that a tap's weights serve four pixels.
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/taps_avx2.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPixels = 4;

struct Taps {
  const float* const* pointers;  // [pixel][count]
  std::int64_t count;
  const float* weights;  // of the block's first channel
  std::int64_t weight_pitch;
  std::int64_t channel;
};

// acc[pixel][16] of kCount pixels and 16 channels.
template <int kCount>
void add_taps(const Taps& taps, float* acc) {
  __m256 sum[kCount][2];
#pragma GCC unroll 4
  for (int p = 0; p < kCount; ++p) sum[p][0] = sum[p][1] = _mm256_setzero_ps();
  const float* weights = taps.weights;
  for (std::int64_t t = 0; t < taps.count; ++t, weights += taps.weight_pitch) {
    __m256 w[2] = {_mm256_loadu_ps(weights), _mm256_loadu_ps(weights + 8)};
#pragma GCC unroll 4
    for (int p = 0; p < kCount; ++p) {
      const float* x = taps.pointers[p * taps.count + t] + taps.channel;
      sum[p][0] = _mm256_fmadd_ps(_mm256_loadu_ps(x), w[0], sum[p][0]);
      sum[p][1] = _mm256_fmadd_ps(_mm256_loadu_ps(x + 8), w[1], sum[p][1]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kCount; ++p) {
    _mm256_store_ps(acc + 16 * p, sum[p][0]);
    _mm256_store_ps(acc + 16 * p + 8, sum[p][1]);
  }
}

// The same for the last channels: `columns` of 16, the rest of the pixel's memory is not touched.
void add_taps_of_tail(const Taps& taps, std::int64_t pixels, std::int64_t columns, float* acc) {
  for (std::int64_t p = 0; p < pixels; ++p) {
    F32x8 low(0.0f);
    F32x8 high(0.0f);
    const float* weights = taps.weights;
    for (std::int64_t t = 0; t < taps.count; ++t, weights += taps.weight_pitch) {
      const float* x = taps.pointers[p * taps.count + t] + taps.channel;
      low = fma_of(load_first(x, columns), load(weights), low);
      if (columns > 8) high = fma_of(load_first(x + 8, columns - 8), load(weights + 8), high);
    }
    store(acc + 16 * p, low);
    store(acc + 16 * p + 8, high);
  }
}

void convolve_block(const DepthwiseF32Plan& plan, const Taps& taps, const TargetF32& target) {
  using AddTaps = void (*)(const Taps&, float*);
  constexpr AddTaps kAddTaps[] = {add_taps<1>, add_taps<2>, add_taps<3>, add_taps<4>};
  alignas(32) float acc[kPixels * 16];
  if (target.columns == 16) {
    kAddTaps[target.rows - 1](taps, acc);
  } else {
    add_taps_of_tail(taps, target.rows, target.columns, acc);
  }
  store_tile_f32(plan.epilogue, target, acc);
}

void convolve_row(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit, std::byte* scratch) {
  const ConvDims& d = plan.dims;
  Taps taps;
  taps.count = d.kernel_h * d.kernel_w;
  taps.weight_pitch = (d.in_c + 15) / 16 * 16;
  const auto** pointers = reinterpret_cast<const float**>(scratch);
  auto* zeros = reinterpret_cast<float*>(scratch + (kPixels * taps.count * 8 + 95) / 64 * 64);
  zero_floats(zeros, d.in_c);
  TapRow<float> row = {
      .dims = &d, .image = args.x + unit / d.out_h * d.in_h * d.in_w * d.in_c, .padding = zeros, .oy = unit % d.out_h};
  taps.pointers = pointers;
  for (std::int64_t ox = 0; ox < d.out_w; ox += kPixels) {
    std::int64_t pixels = min_of(d.out_w - ox, kPixels);
    find_taps_of_pixels(row, ox, pixels, kPixels, taps.count, pointers);
    for (taps.channel = 0; taps.channel < d.in_c; taps.channel += 16) {
      std::int64_t at = (unit * d.out_w + ox) * d.out_c + taps.channel;
      taps.weights = reinterpret_cast<const float*>(args.weights) + taps.channel;
      TargetF32 target = {.rows = pixels,
                          .columns = min_of(d.out_c - taps.channel, 16),
                          .pitch = d.out_c,
                          .bias = plan.epilogue.has_bias ? args.bias + taps.channel : nullptr,
                          .residual = plan.epilogue.has_residual ? args.residual + at : nullptr,
                          .out = args.out + at};
      convolve_block(plan, taps, target);
    }
  }
}

}  // namespace

void run_depthwise_f32_avx2(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch) {
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) convolve_row(plan, args, unit, scratch);
}

}  // namespace aoq::cpu
