// int8 convolution and linear over NHWC for AVX2: `vpmaddubsw` wherever its 16-bit sums of two products cannot
// saturate, which packing proves, and `vpmaddwd` elsewhere. Same meaning and same epilogue as conv_s8.h, to the bit.
//
// How: K is cut into words of four codes. Two elements of a word make a *safe* pair in a panel of 16 output channels if
// in every channel their positive weights sum to at most 128 and their negative ones to at least -128: the products sum
// to at most 255 * 128 < 2^15. A word can be paired in three ways; the first with two safe pairs is taken, for two of
// the ways at the price of a shuffle of the codes. Words without one are widened to 16 bits. Of the dense layers of
// trained models some 15 to 50 of 100 words are not safe in the first way, and 5 to 20 in none. All else is as
// conv_panels.h says.
//
// Packed weights, layout S8_K4_N16_SAFE: for every group, for every 16 output channels
//   16 int32         sums of w
//   [3 + steps] u16  how many words are paired (0 1)(2 3), (0 2)(1 3) and (0 3)(1 2), then which word stands where:
//                    the paired ones first, in this order; zeros to 64 bytes
//   [steps][64]      a paired word: [16][4] weights in the order of its pairs; another: [16][2] of its elements 0
//                    and 2, then [16][2] of 1 and 3
// where steps = ceil(K / 4), K = kernel_h * kernel_w * in_c / groups in that order; what is missing is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/conv_panels.h"

namespace aoq::cpu {

// Pixels of a tile at most.
inline constexpr int kMaddubsTileRows = 4;

// Ways to make two pairs of four elements.
inline constexpr int kMaddubsPairings = 3;

// Needs K <= kMaxExactProducts.
ConvPanelsPlan plan_conv_maddubs(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t packed_bytes_conv_maddubs(const ConvDims& dims);
// Weights are [out_c, in_c / groups, kernel_h, kernel_w]; a linear's are [n, k].
void pack_conv_maddubs(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// The way back; `packed` holds packed_bytes_conv_maddubs and is well formed.
void unpack_conv_maddubs(const ConvDims& dims, const std::byte* packed, std::int8_t* weights);
// Whether every panel names each of its words once. Packed bytes from elsewhere are checked before they are used.
bool is_well_formed_maddubs(const ConvDims& dims, const std::byte* packed);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S8_K4_N16_SAFE). Only where
// the processor has AVX2.
void run_conv_maddubs(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
