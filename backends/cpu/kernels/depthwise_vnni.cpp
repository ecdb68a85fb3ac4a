#include "backends/cpu/kernels/depthwise_vnni.h"

#include <algorithm>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kBlock = 64;
// Units of more rows share more of what they prepare.
constexpr std::int64_t kMostWantedUnits = 16;

std::int64_t quads_of(const ConvDims& dims) {
  return ceil_div(dims.kernel_h, 4);
}
std::int64_t block_bytes(const ConvDims& dims) {
  return 4 * 64 * (1 + dims.kernel_w * quads_of(dims));
}
// The place of a channel of a block among its four vectors, in elements of int32.
std::int64_t place_of(std::int64_t channel) {
  const std::int64_t lane = channel / 16, vector = channel % 16 / 4;
  return vector * 16 + lane * 4 + channel % 4;
}

// Output rows of the first half of the units, in which blocks of channels follow each other row block by row block.
std::int64_t rows_of_first_half(std::int64_t rows, std::int64_t row_block, std::int64_t blocks) {
  const std::int64_t half = ceil_div(ceil_div(rows, row_block) * blocks, 2);
  const std::int64_t begin = half / blocks * row_block;
  return begin * blocks + std::min(row_block, rows - begin) * (half % blocks);
}

// A multiple of `step`: as few rows as make enough units, or up to twice as many where workers share those more evenly.
std::int64_t rows_of_unit(const ConvDims& dims, std::int64_t blocks, std::int64_t step) {
  const std::int64_t rows = dims.out_h, units = std::max<std::int64_t>(blocks * dims.batch, 1);
  const std::int64_t wanted = std::max<std::int64_t>(kMostWantedUnits / units, 1);
  const std::int64_t least = round_up(std::max(ceil_div(rows, wanted), std::min<std::int64_t>(rows, 4)), step);
  return evenly_shared(least, round_up(rows, step), step,
                       [&](std::int64_t block) { return rows_of_first_half(rows, block, blocks); });
}

}  // namespace

bool takes_depthwise_vnni(const ConvDims& d, const EpilogueS8& epilogue) {
  const bool has_size = d.kernel_h == d.kernel_w && (d.kernel_w == 3 || d.kernel_w == 5);
  const bool has_steps = d.stride_w <= 2 && d.dilation_h == 1 && d.dilation_w == 1;
  return has_size && has_steps && epilogue.out_type != DType::f32 && !epilogue.has_residual &&
         (epilogue.activation.kind == Activation::none || epilogue.activation.kind == Activation::hardswish);
}

DepthwiseVnniPlan plan_depthwise_vnni(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  DepthwiseVnniPlan plan;
  plan.dims = dims;
  plan.epilogue = epilogue;
  plan.x_type = x_type;
  plan.blocks = ceil_div(dims.in_c, kBlock);
  plan.block_bytes = block_bytes(dims);
  const bool is_square = dims.stride_h == dims.stride_w;
  plan.rows_together = dims.kernel_w == 3 && is_square ? 2 : 1;
  plan.row_block = rows_of_unit(dims, plan.blocks, plan.rows_together);
  plan.row_blocks = plan.row_block == 0 ? 0 : ceil_div(dims.out_h, plan.row_block);
  plan.units = dims.batch * plan.row_blocks * plan.blocks;
  // The taps, or half the channels of a row as s16; before them a pixel of padding, behind them copies of image rows.
  plan.prepared_bytes = dims.kernel_w == 3 ? kDepthwise3x3TapBytes : kBlock * dims.out_w;
  const std::int64_t columns = (dims.out_w - 1) * dims.stride_w + dims.kernel_w;
  plan.scratch_bytes = kBlock + plan.prepared_bytes + kDepthwiseRows * kBlock * columns;
  return plan;
}

std::int64_t packed_bytes_depthwise_vnni(const ConvDims& dims) {
  return ceil_div(dims.in_c, kBlock) * block_bytes(dims);
}

std::int64_t index_depthwise_vnni(const ConvDims& dims, std::int64_t channel, std::int64_t tap) {
  const std::int64_t kh = tap / dims.kernel_w, kw = tap % dims.kernel_w;
  const std::int64_t quad = kw * quads_of(dims) + kh / 4;
  return channel / kBlock * block_bytes(dims) + 4 * 64 * (1 + quad) + 4 * place_of(channel % kBlock) + kh % 4;
}

void pack_depthwise_vnni(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  const std::int64_t taps = dims.kernel_h * dims.kernel_w;
  for (std::int64_t channel = 0; channel < dims.in_c; ++channel) {
    auto* sums = reinterpret_cast<std::int32_t*>(packed.data() + channel / kBlock * block_bytes(dims));
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      const std::int8_t w = weights[channel * taps + tap];
      packed[static_cast<std::size_t>(index_depthwise_vnni(dims, channel, tap))] = static_cast<std::byte>(w);
      sums[place_of(channel % kBlock)] += w;
    }
  }
}

std::int64_t padded_depthwise_vnni(const ConvDims& dims) {
  return round_up(dims.in_c, kBlock);
}

void spread_depthwise_vnni(std::span<const float> values, std::span<float> padded) {
  std::fill(padded.begin(), padded.end(), 0.0f);
  for (std::int64_t channel = 0; channel < static_cast<std::int64_t>(values.size()); ++channel) {
    const std::int64_t place = channel / kBlock * kBlock + place_of(channel % kBlock);
    padded[static_cast<std::size_t>(place)] = values[static_cast<std::size_t>(channel)];
  }
}

void run_depthwise_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                        std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  const auto run = plan.dims.kernel_w == 3 ? run_depthwise_3x3_avx512_vnni : run_depthwise_5x5_avx512_vnni;
  run(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
