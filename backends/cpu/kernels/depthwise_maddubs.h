// int8 depthwise convolution 3x3 and 5x5 of at least 32 channels for AVX2. Same meaning as depthwise_s8.h, to the bit;
// results are codes without residual, with activations of kind clamp only.
//
// How: every weight is 16 * h + l with h and l in [-8, 8], so `vpmaddubsw` multiplies two taps of 16 channels at once,
// and up to 16 taps can be added in 16 bits: 16 * 8 * 255 < 2^15. One `vpmaddwd` by (1, 16) then joins the two sums to
// 32 bits. Bytes of two taps are interleaved by unpacking within 16-byte lanes; packing the results undoes that order.
// Sums start at -z * (sum of w), padding is the code z, signed codes are taken as x + 128.
//
// Packed weights, layout S8_DW_SPLIT: for every 32 channels, the last of which begin at channel C - 32, 4 vectors of 8
// int32 sums of w, vector v holding channels 16 * i + 4 * v + q at lane i, place q; then for every pair of taps (odd
// last tap: partner 0) four vectors of [2][8][2] s8: l of channels 0 to 7 and 16 to 23, l of 8 to 15 and 24 to 31, and
// h alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/depthwise_s8.h"

namespace aoq::cpu {

struct DepthwiseMaddubsPlan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  std::int64_t blocks = 0;  // of 32 channels
  std::int64_t block_bytes = 0;
  std::int64_t row_block = 0;  // output rows that are computed for one block of channels before the next block
  std::int64_t units = 0;      // output rows of the batch
  std::int64_t scratch_bytes = 0;
};

// Whether weights of this shape can be packed: 3x3 or 5x5, at least 32 channels.
bool packs_depthwise_maddubs(const ConvDims& dims);
// Whether the kernel takes this geometry and epilogue. Its arrays must besides be such that stays_small holds.
bool takes_depthwise_maddubs(const ConvDims& dims, const EpilogueS8& epilogue);
DepthwiseMaddubsPlan plan_depthwise_maddubs(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t packed_bytes_depthwise_maddubs(const ConvDims& dims);
// Weights are [channels, 1, kernel_h, kernel_w], of a shape that can be packed.
void pack_depthwise_maddubs(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// The way back.
void unpack_depthwise_maddubs(const ConvDims& dims, const std::byte* packed, std::int8_t* weights);

// Computes units [unit_begin, unit_end). Only where the processor has AVX2.
void run_depthwise_maddubs(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
