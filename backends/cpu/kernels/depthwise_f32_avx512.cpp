// AVX-512 f32 depthwise convolution: 8 pixels x 16 channels, so that a tap's weights serve eight pixels and, where the
// kernel's columns are dense, a column of the input serves every pixel that it belongs to.
#include "backends/cpu/kernels/depthwise_columns_f32.h"
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/tile_f32_avx512.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPixels = 8;

// What up to eight neighbouring pixels read. Kernel row i finds column j of pixel p behind
// columns[i * pitch + p * stride + j * dilation]; columns in the padding are zeros.
struct Taps {
  const float* const* columns;
  std::int64_t pitch;
  std::int64_t kernel_h, kernel_w;
  std::int64_t stride, dilation;
  const float* weights;  // of the block's first channel
  std::int64_t weight_pitch;
  std::int64_t channel;
  __mmask16 mask;  // the block's channels
};

// Any kernel.
template <int kCount>
struct PlainTaps {
  static void add(const Taps& taps, RowSums<1, 0> (&sum)[kCount]) {
    const float* weights = taps.weights;
    for (std::int64_t i = 0; i < taps.kernel_h; ++i) {
      for (std::int64_t j = 0; j < taps.kernel_w; ++j, weights += taps.weight_pitch) {
        const float* const* column = taps.columns + i * taps.pitch + j * taps.dilation;
        __m512 w = _mm512_loadu_ps(weights);
#pragma GCC unroll 8
        for (int p = 0; p < kCount; ++p) {
          __m512 x = _mm512_maskz_loadu_ps(taps.mask, column[p * taps.stride] + taps.channel);
          sum[p].full[0] = _mm512_fmadd_ps(x, w, sum[p].full[0]);
        }
      }
    }
  }
};

// kWidth dense columns: each is loaded once. A pixel still gets its products from left to right.
template <int kCount, int kWidth, int kStride>
struct SharedTaps {
  static void add(const Taps& taps, RowSums<1, 0> (&sum)[kCount]) {
    constexpr int kColumns = (kCount - 1) * kStride + kWidth;
    const float* weights = taps.weights;
    for (std::int64_t i = 0; i < taps.kernel_h; ++i, weights += kWidth * taps.weight_pitch) {
      const float* const* columns = taps.columns + i * taps.pitch;
      __m512 w[kWidth];
#pragma GCC unroll 5
      for (int j = 0; j < kWidth; ++j) w[j] = _mm512_loadu_ps(weights + j * taps.weight_pitch);
#pragma GCC unroll 19
      for (int c = 0; c < kColumns; ++c) {
        __m512 x = _mm512_maskz_loadu_ps(taps.mask, columns[c] + taps.channel);
#pragma GCC unroll 8
        for (int p = 0; p < kCount; ++p) {
          int j = c - p * kStride;
          if (j >= 0 && j < kWidth) sum[p].full[0] = _mm512_fmadd_ps(x, w[j], sum[p].full[0]);
        }
      }
    }
  }
};

// The whole of kCount pixels and 16 channels. `target` is null where finish_tile_f32 finishes acc[pixel][64].
template <int kCount, typename AddTaps>
void convolve_tile(const Taps& taps, float* acc, const TargetTileF32* target) {
  RowSums<1, 0> sum[kCount];
#pragma GCC unroll 8
  for (int p = 0; p < kCount; ++p) sum[p].full[0] = _mm512_setzero_ps();
  AddTaps::add(taps, sum);
  if (target != nullptr) return finish_sums(*target, sum);
#pragma GCC unroll 8
  for (int p = 0; p < kCount; ++p) _mm512_store_ps(acc + kTileColumns * p, sum[p].full[0]);
}

using ConvolveTile = void (*)(const Taps&, float*, const TargetTileF32*);

// By pixels - 1.
struct TileTable {
  ConvolveTile of[kPixels];
};

template <template <int> typename AddTaps>
constexpr TileTable tiles_of() {
  return {{convolve_tile<1, AddTaps<1>>, convolve_tile<2, AddTaps<2>>, convolve_tile<3, AddTaps<3>>,
           convolve_tile<4, AddTaps<4>>, convolve_tile<5, AddTaps<5>>, convolve_tile<6, AddTaps<6>>,
           convolve_tile<7, AddTaps<7>>, convolve_tile<8, AddTaps<8>>}};
}

template <int kCount>
using Taps3 = SharedTaps<kCount, 3, 1>;
template <int kCount>
using Taps3Stride2 = SharedTaps<kCount, 3, 2>;
template <int kCount>
using Taps5 = SharedTaps<kCount, 5, 1>;
template <int kCount>
using Taps5Stride2 = SharedTaps<kCount, 5, 2>;

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

// All channels of `pixels` neighbouring pixels; `at` is the first one's place in the output.
void convolve_pixels(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, Taps taps, std::int64_t pixels,
                     std::int64_t at) {
  alignas(64) float acc[kPixels * kTileColumns];
  ConvolveTile tile = tiles_for(plan.dims).of[pixels - 1];
  std::int64_t channels = plan.dims.out_c;
  bool is_direct = is_clamped(plan.epilogue);
  TargetTileF32 target = target_of(plan.epilogue, channels);
  for (taps.channel = 0; taps.channel < channels; taps.channel += 16) {
    target.last_columns = min_of(channels - taps.channel, 16);
    taps.mask = first_16(target.last_columns);
    taps.weights = reinterpret_cast<const float*>(args.weights) + taps.channel;
    if (plan.epilogue.has_bias) target.bias = args.bias + taps.channel;
    if (plan.epilogue.has_residual) target.residual = args.residual + at + taps.channel;
    target.out = args.out + at + taps.channel;
    tile(taps, acc, is_direct ? &target : nullptr);
    if (!is_direct) finish_tile_f32(plan.epilogue, target, pixels, 1, acc);
  }
}

void convolve_row(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit, std::byte* scratch) {
  const ConvDims& d = plan.dims;
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
  std::int64_t left = (d.out_w + kPixels - 1) / kPixels;  // tiles, of about as many pixels each
  for (std::int64_t ox = 0; ox < d.out_w; --left) {
    std::int64_t pixels = (d.out_w - ox + left - 1) / left;
    taps.columns = columns + ox * d.stride_w;
    convolve_pixels(plan, args, taps, pixels, (unit * d.out_w + ox) * d.out_c);
    ox += pixels;
  }
}

}  // namespace

void run_depthwise_f32_avx512(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                              std::int64_t unit_end, std::byte* scratch) {
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) convolve_row(plan, args, unit, scratch);
}

}  // namespace aoq::cpu
