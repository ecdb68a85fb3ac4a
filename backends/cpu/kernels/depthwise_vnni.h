// int8 depthwise convolution 3x3 and 5x5, strides 1 and 2, for AVX512-VNNI. Same meaning as depthwise_s8.h, to the bit;
// results are codes without residual, with activations of kind clamp and hardswish only.
//
// How: `vpdpbusd` adds four taps of a channel at once. Image rows and columns are interleaved by unpacking bytes within
// 16-byte lanes, once for all output pixels that they touch, in 3x3 kernels also those of two output rows. Packing the
// results undoes that order. Sums start at -z * (sum of w), padding is the code z, signed codes are taken as x + 128.
// Where a block has few channels, four pixels of a row share a vector.
//
// Packed weights, layout S8_DW_K4: for every 64 channels, vectors of 16 in the unpacked order, vector j of four holding
// channels 16 * i + 4 * j + q at lane i, place q: 4 vectors of int32 sums, then [kernel_w][ceil(kernel_h / 4)][4
// vectors] of four s8 taps each; what is missing is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/depthwise_s8.h"

namespace aoq::cpu {

// What a 3x3 kernel prepares in scratch memory for a block of channels.
inline constexpr std::int64_t kDepthwise3x3TapBytes = 64 * 28;
// Image rows that one or two output rows touch, at most.
inline constexpr int kDepthwiseRows = 5;

struct DepthwiseVnniPlan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  std::int64_t rows_together = 1;  // output rows that share what is interleaved
  std::int64_t row_block = 0;      // output rows of one unit
  std::int64_t row_blocks = 0;     // of one image
  std::int64_t blocks = 0;         // of 64 channels
  std::int64_t block_bytes = 0;
  std::int64_t prepared_bytes = 0;  // of scratch that is not for copied image rows
  std::int64_t units = 0;
  std::int64_t scratch_bytes = 0;
};

// Whether the kernel takes this geometry and epilogue. Its arrays must besides be such that stays_small holds.
bool takes_depthwise_vnni(const ConvDims& dims, const EpilogueS8& epilogue);
DepthwiseVnniPlan plan_depthwise_vnni(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t packed_bytes_depthwise_vnni(const ConvDims& dims);
// Weights are [channels, 1, kernel_h, kernel_w].
void pack_depthwise_vnni(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// Where tap `tap` of a channel lies in the packed bytes.
std::int64_t index_depthwise_vnni(const ConvDims& dims, std::int64_t channel, std::int64_t tap);

// The epilogue's arrays are in the order of the packed vectors and have as many entries: spread_depthwise_vnni puts
// plain per-channel values at their places and 0 elsewhere.
std::int64_t padded_depthwise_vnni(const ConvDims& dims);
void spread_depthwise_vnni(std::span<const float> values, std::span<float> padded);

// Computes units [unit_begin, unit_end). Only where the processor has AVX512-VNNI.
void run_depthwise_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                        std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
