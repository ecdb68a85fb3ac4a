#include "backends/cpu/kernels/depthwise_s8.h"

#include <algorithm>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kBlock = 16;

std::int64_t taps_of(const ConvDims& dims) {
  return dims.kernel_h * dims.kernel_w;
}
bool is_3x3(const ConvDims& dims) {
  return dims.kernel_h == 3 && dims.kernel_w == 3;
}
std::int64_t block_bytes(const ConvDims& dims) {
  return 64 + ceil_div(taps_of(dims), 2) * 64 + (is_3x3(dims) ? 6 * 64 : 0);
}
std::int64_t block_start(std::int64_t channels, std::int64_t block) {
  return std::max<std::int64_t>(std::min(block * kBlock, channels - kBlock), 0);
}

std::int32_t weight_at(const ConvDims& d, const std::byte* packed, std::int64_t channel, std::int64_t tap) {
  std::int64_t block = channel / kBlock;
  std::int64_t lane = channel - block_start(d.in_c, block);
  const auto* w = reinterpret_cast<const std::int16_t*>(packed + block * block_bytes(d) + 64);
  return w[tap / 2 * 2 * kBlock + lane * 2 + tap % 2];
}

// The definition: padding taps are x = zero point and so contribute nothing.
std::int32_t accumulate(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t pixel,
                        std::int64_t channel) {
  const ConvDims& d = plan.dims;
  std::int64_t ox = pixel % d.out_w;
  std::int64_t oy = pixel / d.out_w % d.out_h;
  std::int64_t image = pixel / d.out_w / d.out_h;
  std::int32_t acc = 0;
  for (std::int64_t tap = 0; tap < taps_of(d); ++tap) {
    std::int64_t iy = oy * d.stride_h - d.pad_top + tap / d.kernel_w * d.dilation_h;
    std::int64_t ix = ox * d.stride_w - d.pad_left + tap % d.kernel_w * d.dilation_w;
    if (iy < 0 || iy >= d.in_h || ix < 0 || ix >= d.in_w) continue;
    std::int64_t at = ((image * d.in_h + iy) * d.in_w + ix) * d.in_c + channel;
    std::int32_t x = plan.x_type == DType::i8 ? static_cast<const std::int8_t*>(args.x)[at]
                                              : static_cast<const std::uint8_t*>(args.x)[at];
    acc += (x - args.x_zero_point) * weight_at(d, args.weights, channel, tap);
  }
  return acc;
}

void run_scalar(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                std::int64_t unit_end) {
  const ConvDims& d = plan.dims;
  for (std::int64_t pixel = unit_begin * d.out_w; pixel < unit_end * d.out_w; ++pixel) {
    for (std::int64_t channel = 0; channel < d.out_c; ++channel) {
      store_epilogue_scalar(plan.epilogue, args.epilogue, channel, accumulate(plan, args, pixel, channel),
                            pixel * d.out_c + channel);
    }
  }
}

}  // namespace

DepthwiseS8Plan plan_depthwise_s8(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue, Isa isa) {
  DepthwiseS8Plan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.isa = isa;
  plan.units = dims.batch * dims.out_h;
  if (isa == Isa::reference) return plan;
  plan.shares_columns =
      is_3x3(dims) && dims.stride_w <= 2 && dims.dilation_h == 1 && dims.dilation_w == 1 && dims.in_c >= kBlock;
  if (plan.shares_columns) {
    plan.scratch_bytes = round_up(dims.in_c, 64) + dims.out_w * 64;
    return plan;
  }
  // A pixel group's pointers and, below 16 channels, its copied taps; then the padding pixel.
  std::int64_t slots = 4 * round_up(taps_of(dims), 2);
  plan.scratch_bytes = round_up(slots * 8 + 32, 64) + round_up(slots * kBlock, 64) + round_up(dims.in_c + kBlock, 64);
  return plan;
}

std::int64_t packed_bytes_depthwise_s8(const ConvDims& dims) {
  return ceil_div(dims.in_c, kBlock) * block_bytes(dims);
}

void pack_depthwise_s8(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  std::int64_t taps = taps_of(dims);
  for (std::int64_t block = 0; block < ceil_div(dims.in_c, kBlock); ++block) {
    std::byte* to = packed.data() + block * block_bytes(dims);
    auto* sums = reinterpret_cast<std::int32_t*>(to);
    auto* pairs = reinterpret_cast<std::int16_t*>(to + 64);
    std::int16_t* columns = pairs + ceil_div(taps, 2) * 2 * kBlock;
    std::int64_t start = block_start(dims.in_c, block);
    for (std::int64_t lane = 0; lane < kBlock && start + lane < dims.in_c; ++lane) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        std::int8_t w = weights[(start + lane) * taps + tap];
        sums[lane] += w;
        pairs[tap / 2 * 2 * kBlock + lane * 2 + tap % 2] = w;
        if (is_3x3(dims)) columns[(tap % 3 * 2 + tap / 6) * 2 * kBlock + lane * 2 + tap / 3 % 2] = w;
      }
    }
  }
}

void run_depthwise_s8(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx2) return run_depthwise_s8_avx2(plan, args, unit_begin, unit_end, scratch);
#endif
  run_scalar(plan, args, unit_begin, unit_end);
}

}  // namespace aoq::cpu
