// int8 convolution 3x3 of stride 1 over NHWC by Winograd's F(4x4, 3x3) in integers: 4 times fewer products than
// conv_s8.h, the same result to the bit. (A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks,
// 2016, section 4.2, at the points 0, 1, -1, 2, -2 and infinity, each row scaled so that all are integers.)
//
//   U = G w G^T            at most 49 * 128, s16         G = [6 0 0; 1 1 1; 1 -1 1; 1 2 4; 1 -2 4; 0 0 6]
//   V = B^T (x - o) B      at most 100 * 128, s16        B^T = [4 0 -5 0 1 0; 0 4 4 -1 -1 0; 0 -4 4 1 -1 0;
//                                                               0 -2 -1 2 1 0; 0 2 -1 -2 1 0; 0 4 0 -5 0 1]
//   M = sum over channels of U * V, 36 places            int32, wraps
//   c_i c_j y_ij = (A M A^T)_ij                          A = [1 4 4 1 1 0; 0 2 -2 1 -1 0; 0 1 1 1 1 0; 0 1 -1 2 -2 1]
//                                                        c = [24 12 6 6]
//   sum of (x - z) * w = y + (o - z) * (sum of w)        o = 128 for u8, 0 for i8; z the zero point
//
// The end is exact modulo 2^32: c_i c_j = 9 * 2^s, s <= 6, so the product with the inverse of 9 is 2^s * y, and an
// arithmetic shift leaves y where |y| < 2^(31 - s). That holds for sums of up to 227 channels, 227 * 9 * 128 * 128 <
// 2^25: more are summed in parts, which are transformed back one by one.
//
// How: a unit transforms the 6x6 patches of a block of 4x4 output tiles, then panel by panel of 16 output channels the
// weights, multiplies the 36 places' [tiles, channels] with them by `vpmaddwd`, or `vpdpwssd` where there is
// AVX512-VNNI, and transforms the sums back, some tiles at a time. Transformed weights are 8 times as large as packed
// ones: reading them from memory would take longer than making them.
//
// Packed weights are conv_vnni.h's, layout S8_K4_N16. Elements of U and V stand in the order in which words of four
// codes come apart: of every 4 * n channels, those with even numbers first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/conv_s8.h"

namespace aoq::cpu {

struct ConvWinogradPlan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  Isa isa = Isa::avx2;       // avx2 or avx512_vnni
  std::int64_t tiles_h = 0;  // of one image
  std::int64_t tiles_w = 0;
  std::int64_t tiles = 0;  // of the batch
  std::int64_t panels = 0;
  std::int64_t panel_bytes = 0;
  std::int64_t parts = 0;        // sums of an output element that are transformed back on their own
  std::int64_t part_strips = 0;  // vectors of V of a part; the last may have fewer
  std::int64_t tile_block = 0;   // tiles of one unit, a multiple of 4
  std::int64_t tile_blocks = 0;
  std::int64_t sum_tiles = 0;    // tiles whose sums are held at once, a multiple of 4
  std::int64_t panel_block = 0;  // panels of one unit
  std::int64_t panel_blocks = 0;
  std::int64_t units = 0;
  std::int64_t patch_elements = 0;   // of V
  std::int64_t weight_elements = 0;  // of a panel's U
  std::int64_t sum_elements = 0;     // of M, all parts
  std::int64_t scratch_bytes = 0;
};

// Whether the kernel can compute this: 3x3, stride 1, no dilation, no groups, a multiple of 16 input channels.
bool takes_winograd(const ConvDims& dims);
// Whether it is faster than the class's other kernels: few tiles do not pay for the weights' transform, and a part of
// them may lie outside the image.
bool is_winograd_worth(const ConvDims& dims, Isa isa);

// What a plan is made for: avx2 or avx512_vnni, and the threads that share its units.
struct WinogradTarget {
  Isa isa = Isa::avx2;
  int workers = 1;
};

ConvWinogradPlan plan_conv_winograd(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue,
                                    const WinogradTarget& target);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S8_K4_N16). Only where the
// processor has the plan's class.
void run_conv_winograd(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                       std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
