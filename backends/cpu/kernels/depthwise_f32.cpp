#include "backends/cpu/kernels/depthwise_f32.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kBlock = 16;

// The definition of one accumulator.
float accumulate(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t pixel, std::int64_t channel) {
  const ConvDims& d = plan.dims;
  const float* w = reinterpret_cast<const float*>(args.weights) + channel;
  std::int64_t ox = pixel % d.out_w;
  std::int64_t oy = pixel / d.out_w % d.out_h;
  std::int64_t image = pixel / d.out_w / d.out_h;
  float acc = 0.0f;
  for (std::int64_t tap = 0; tap < d.kernel_h * d.kernel_w; ++tap, w += round_up(d.in_c, kBlock)) {
    std::int64_t iy = oy * d.stride_h - d.pad_top + tap / d.kernel_w * d.dilation_h;
    std::int64_t ix = ox * d.stride_w - d.pad_left + tap % d.kernel_w * d.dilation_w;
    bool inside = iy >= 0 && iy < d.in_h && ix >= 0 && ix < d.in_w;
    float x = inside ? args.x[((image * d.in_h + iy) * d.in_w + ix) * d.in_c + channel] : 0.0f;
    acc = std::fma(x, *w, acc);
  }
  return acc;
}

void run_scalar(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                std::int64_t unit_end) {
  const ConvDims& d = plan.dims;
  for (std::int64_t pixel = unit_begin * d.out_w; pixel < unit_end * d.out_w; ++pixel) {
    for (std::int64_t channel = 0; channel < d.out_c; ++channel) {
      std::int64_t at = pixel * d.out_c + channel;
      float y = accumulate(plan, args, pixel, channel);
      if (plan.epilogue.has_bias) y = y + args.bias[channel];
      if (plan.epilogue.has_residual) y = y + args.residual[at];
      args.out[at] = apply_activation(plan.epilogue.activation, y);
    }
  }
}

}  // namespace

DepthwiseF32Plan plan_depthwise_f32(const ConvDims& dims, const EpilogueF32& epilogue, Isa isa) {
  DepthwiseF32Plan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.isa = isa;
  plan.units = dims.batch * dims.out_h;
  if (isa == Isa::reference) return plan;
  plan.scratch_bytes = round_up(dims.in_c * 4, 64) + round_up(dims.kernel_h * depthwise_columns(dims) * 8, 64);
  return plan;
}

std::int64_t packed_bytes_depthwise_f32(const ConvDims& dims) {
  return dims.kernel_h * dims.kernel_w * round_up(dims.in_c, kBlock) * 4;
}

void pack_depthwise_f32(const ConvDims& dims, const float* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  auto* out = reinterpret_cast<float*>(packed.data());
  std::int64_t taps = dims.kernel_h * dims.kernel_w;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t channel = 0; channel < dims.in_c; ++channel) {
      out[tap * round_up(dims.in_c, kBlock) + channel] = weights[channel * taps + tap];
    }
  }
}

void run_depthwise_f32(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                       std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_depthwise_f32_avx512(plan, args, unit_begin, unit_end, scratch);
  if (plan.isa >= Isa::avx2) return run_depthwise_f32_avx2(plan, args, unit_begin, unit_end, scratch);
#endif
  run_scalar(plan, args, unit_begin, unit_end);
}

}  // namespace aoq::cpu
