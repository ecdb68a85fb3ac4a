// int8 convolution 3x3 of stride 1 over NHWC by Winograd's F(2x2, 3x3) in integers: 2.25 times fewer products than
// conv_s8.h, the same result to the bit. (A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks,
// 2016, section 4.1; the weights' transform is doubled in each direction, so that it stays integral.)
//
//   U = (2G) w (2G)^T    at most 9 * 128, s16          2G = [2 0 0; 1 1 1; 1 -1 1; 0 0 2]
//   V = B^T (x - z) B    at most 4 * 255, s16          B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]
//   M = sum over channels of U * V, 16 places          int32, may wrap
//   4 y = A^T M A                                      A^T = [1 1 1 0; 0 1 -1 -1]
//
// The end is exact because 4 y fits int32 for up to 1820 channels: 255 * 128 * 9 * 1820 * 4 < 2^31.
//
// How: a unit transforms the 4x4 patches of a block of 2x2 output tiles, multiplies the 16 places' [tiles, channels]
// with panels of 16 output channels by `vpmaddwd`, and transforms the sums back.
//
// Packed weights, layout S16_WINO_N16: for every 16 output channels, for every place, [in_c / 2][16][2] s16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/conv_s8.h"

namespace aoq::cpu {

struct ConvWinogradPlan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  std::int64_t tiles_h = 0;  // of one image
  std::int64_t tiles_w = 0;
  std::int64_t tiles = 0;  // of the batch
  std::int64_t panels = 0;
  std::int64_t tile_block = 0;  // tiles of one unit
  std::int64_t tile_blocks = 0;
  std::int64_t panel_block = 0;  // panels of one unit
  std::int64_t panel_blocks = 0;
  std::int64_t units = 0;
  std::int64_t scratch_bytes = 0;
};

// Whether the kernel can compute this: 3x3, stride 1, no dilation, no groups, a multiple of 16 input channels, at most
// 1820.
bool takes_winograd(const ConvDims& dims);
// Whether it is the faster way: below some size the weights, 3.6 times as large, cost more than products save.
bool is_winograd_worth(const ConvDims& dims);

ConvWinogradPlan plan_conv_winograd(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t packed_bytes_winograd(const ConvDims& dims);
// Weights are [out_c, in_c, 3, 3].
void pack_winograd(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// The way back; `packed` holds packed_bytes_winograd.
void unpack_winograd(const ConvDims& dims, const std::byte* packed, std::int8_t* weights);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S16_WINO_N16). Only where the
// processor has AVX2.
void run_conv_winograd(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                       std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
