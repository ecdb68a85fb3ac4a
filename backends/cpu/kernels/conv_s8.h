// int8 convolution and linear over NHWC: x u8 or i8 with a zero point, weights i8 (symmetric, per channel), exact int32
// accumulation, epilogue of ir/epilogue.h. Dense and grouped; depthwise has its own kernel. Padding is the zero point.
//
// How: a unit widens the im2col rows of a block of output pixels to s16 minus the zero point in its scratch (so nothing
// can saturate and borders are plain zeros), then multiplies them with panels of 16 output channels.
//
// Packed weights, layout S8_K2_N16: for every group, for every 16 output channels, [ceil(K / 2)][16][2] bytes, where
// K = kernel_h * kernel_w * in_c / groups counts in that order; missing channels and the odd K's partner are 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/conv_dims.h"
#include "backends/cpu/kernels/epilogue_s8.h"

namespace aoq::cpu {

// The most products of full-range codes whose sum fits int32.
inline constexpr std::int64_t kMaxExactProducts = 65792;

struct ConvS8Plan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  Isa isa = Isa::reference;
  std::int64_t k = 0;          // products of one output element
  std::int64_t rows = 0;       // output pixels of the whole batch
  std::int64_t panels = 0;     // 16-channel panels of one group
  std::int64_t row_block = 0;  // pixels of one unit
  std::int64_t row_blocks = 0;
  std::int64_t panel_block = 0;  // panels of one unit
  std::int64_t panel_blocks = 0;
  bool x_is_matrix = false;        // 1x1, stride 1, no padding: row r of im2col is pixel r of x
  std::int64_t units = 0;          // independent pieces of work: pass any [begin, end) of them to run
  std::int64_t scratch_bytes = 0;  // per worker, 64-byte aligned
};

// Needs K <= kMaxExactProducts.
ConvS8Plan plan_conv_s8(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue, Isa isa);

// Sizes and places that depend on the weight's dimensions only, not on batch or image.
std::int64_t packed_bytes_conv_s8(const ConvDims& dims);
// Weights are [out_c, in_c / groups, kernel_h, kernel_w]; a linear's are [n, k].
void pack_conv_s8(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// The epilogue's bias and multiplier arrays have padded_channels entries, [groups][panels * 16]; spread_channels puts
// plain per-channel values (out_c of them) at their places and 0 elsewhere.
std::int64_t padded_channels(const ConvDims& dims);
void spread_channels(const ConvDims& dims, std::span<const float> values, std::span<float> padded);

struct ConvS8Args {
  const void* x = nullptr;
  std::int32_t x_zero_point = 0;
  const std::byte* weights = nullptr;  // packed, 64-byte aligned
  EpilogueArgs epilogue;               // arrays of padded_channels entries
};

// Computes units [unit_begin, unit_end). The result does not depend on how units are split over calls and workers.
void run_conv_s8(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                 std::byte* scratch);

}  // namespace aoq::cpu
