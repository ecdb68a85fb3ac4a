#include "backends/cpu/kernels/depthwise_maddubs.h"

#include <algorithm>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kBlock = 32;
constexpr std::int64_t kSumBytes = 4 * kBlock;
constexpr std::int64_t kPairBytes = 4 * kBlock;
// Of one block's channels in the image rows of a block of output rows.
constexpr std::int64_t kRowBlockBytes = 32 * 1024;

std::int64_t taps_of(const ConvDims& dims) {
  return dims.kernel_h * dims.kernel_w;
}
std::int64_t block_bytes_of(const ConvDims& dims) {
  return kSumBytes + ceil_div(taps_of(dims), 2) * kPairBytes;
}
std::int64_t block_start(const ConvDims& dims, std::int64_t block) {
  return std::min(block * kBlock, dims.in_c - kBlock);
}

// Where the sum of a channel of a block lies, in int32.
std::int64_t sum_at(std::int64_t channel) {
  return channel % 16 / 4 * 8 + channel / 16 * 4 + channel % 4;
}
// Where the low part of a tap lies in a block; the high part lies 2 * kBlock bytes behind it.
std::int64_t low_at(std::int64_t channel, std::int64_t tap) {
  return kSumBytes + tap / 2 * kPairBytes + channel % 16 / 8 * kBlock + channel / 16 * 16 + channel % 8 * 2 + tap % 2;
}

// The nearest multiple of 16 over 16; what remains is in [-8, 7].
int high_part(int weight) {
  return (weight + 8 + 256) / 16 - 16;
}

}  // namespace

bool packs_depthwise_maddubs(const ConvDims& d) {
  return d.kernel_h == d.kernel_w && (d.kernel_w == 3 || d.kernel_w == 5) && d.in_c >= kBlock;
}

bool takes_depthwise_maddubs(const ConvDims& d, const EpilogueS8& epilogue) {
  return packs_depthwise_maddubs(d) && d.dilation_h == 1 && d.dilation_w == 1 && epilogue.out_type != DType::f32 &&
         !epilogue.has_residual && epilogue.activation.kind == Activation::none;
}

DepthwiseMaddubsPlan plan_depthwise_maddubs(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  DepthwiseMaddubsPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.blocks = ceil_div(dims.in_c, kBlock);
  plan.block_bytes = block_bytes_of(dims);
  const std::int64_t row_bytes = std::max<std::int64_t>(dims.in_w * dims.stride_h * kBlock, 1);
  plan.row_block = std::max<std::int64_t>(kRowBlockBytes / row_bytes, 1);
  plan.units = dims.batch * dims.out_h;
  // A row of padding, or copies of five rows.
  const std::int64_t columns = (dims.out_w - 1) * dims.stride_w + dims.kernel_w;
  plan.scratch_bytes = round_up(dims.kernel_w == 3 ? dims.in_w * dims.in_c : 5 * columns * kBlock, 64);
  return plan;
}

std::int64_t packed_bytes_depthwise_maddubs(const ConvDims& dims) {
  return ceil_div(dims.in_c, kBlock) * block_bytes_of(dims);
}

void pack_depthwise_maddubs(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  for (std::int64_t block = 0; block < ceil_div(dims.in_c, kBlock); ++block) {
    std::byte* to = packed.data() + block * block_bytes_of(dims);
    auto* sums = reinterpret_cast<std::int32_t*>(to);
    for (std::int64_t channel = 0; channel < kBlock; ++channel) {
      for (std::int64_t tap = 0; tap < taps_of(dims); ++tap) {
        const int w = weights[(block_start(dims, block) + channel) * taps_of(dims) + tap], high = high_part(w);
        sums[sum_at(channel)] += w;
        to[low_at(channel, tap)] = static_cast<std::byte>(w - 16 * high);
        to[low_at(channel, tap) + 2 * kBlock] = static_cast<std::byte>(high);
      }
    }
  }
}

void unpack_depthwise_maddubs(const ConvDims& dims, const std::byte* packed, std::int8_t* weights) {
  for (std::int64_t block = 0; block < ceil_div(dims.in_c, kBlock); ++block) {
    const auto* from = reinterpret_cast<const std::int8_t*>(packed + block * block_bytes_of(dims));
    for (std::int64_t channel = 0; channel < kBlock; ++channel) {
      for (std::int64_t tap = 0; tap < taps_of(dims); ++tap) {
        const std::int64_t at = low_at(channel, tap);
        weights[(block_start(dims, block) + channel) * taps_of(dims) + tap] =
            static_cast<std::int8_t>(from[at] + 16 * from[at + 2 * kBlock]);
      }
    }
  }
}

void run_depthwise_maddubs(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  run_depthwise_maddubs_avx2(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
