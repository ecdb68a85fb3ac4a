// int8 depthwise convolution over NHWC: one kernel per channel (in_c = out_c = groups), exact, epilogue of
// ir/epilogue.h. Types and zero points as in conv_s8.h.
//
// Codes are multiplied as they are; acc starts at -x_zero_point * (sum of the channel's weights), and padding reads the
// zero point, so the two cancel.
//
// Packed weights: blocks of 16 channels; the last one starts at channel C - 16, so it may overlap its neighbour. A
// block is 16 int32 weight sums, then for every pair of taps [16][2] s16 (odd last tap: partner 0).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/conv_dims.h"
#include "backends/cpu/kernels/epilogue_s8.h"

namespace aoq::cpu {

struct DepthwiseS8Plan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  Isa isa = Isa::reference;
  bool shares_columns = false;  // the 3x3 kernel that widens an image column once
  std::int64_t units = 0;       // output rows of the batch
  std::int64_t scratch_bytes = 0;
};

DepthwiseS8Plan plan_depthwise_s8(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue, Isa isa);

std::int64_t packed_bytes_depthwise_s8(const ConvDims& dims);
// Weights are [channels, 1, kernel_h, kernel_w].
void pack_depthwise_s8(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);

// The epilogue's arrays are in channel order with at least 16 entries. The residual must not be `out`.
struct DepthwiseS8Args {
  const void* x = nullptr;
  std::int32_t x_zero_point = 0;
  const std::byte* weights = nullptr;  // packed, 64-byte aligned
  EpilogueArgs epilogue;
};

void run_depthwise_s8(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
