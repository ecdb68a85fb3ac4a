// int8 convolution and linear over NHWC for AVX2: `vpmaddubsw` wherever its 16-bit sums of two products cannot
// saturate, which packing proves, and `vpmaddwd` elsewhere. Same meaning and same epilogue as conv_s8.h, to the bit.
//
// How: the codes of a row are reordered for every panel of 16 output channels such that neighbours make safe pairs, and
// words of two pairs can be doubled (safe_order.h). What makes no safe pair is widened to 16 bits. All else is as
// conv_panels.h says.
//
// Packed weights, layout S8_K4_N16_SAFE: for every group, for every 16 output channels
//   16 int32         sums of w
//   [2 + steps] u16  how many doubles there are, and single words, then the numbers of the ordered words: those of the
//                    doubles, the single ones, the widened ones; zeros to 64 bytes
//   [4 * steps] u8   for every ordered byte, the code of its window that stands there; zeros to 64 bytes
//   [steps][64]      as numbered, [16][4] weights of a doubled or single word; of a widened one [16][2] of its elements
//                    0 and 2, then [16][2] of 1 and 3
// where steps = ceil(K / 4), K = kernel_h * kernel_w * in_c / groups in that order; what is missing is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/conv_panels.h"

namespace aoq::cpu {

// Pixels of a tile at most.
inline constexpr int kMaddubsTileRows = 4;

// Of [steps] words: where the places of the ordered bytes begin in a panel, and where its weights do.
std::int64_t maddubs_places_offset(std::int64_t steps);
std::int64_t maddubs_weights_offset(std::int64_t steps);
// Bytes from one ordered row of a tile to the next; more may be written behind the last word of a row.
std::int64_t ordered_pitch_maddubs(std::int64_t steps);

// Needs K <= kMaxExactProducts.
ConvPanelsPlan plan_conv_maddubs(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t packed_bytes_conv_maddubs(const ConvDims& dims);
// Weights are [out_c, in_c / groups, kernel_h, kernel_w]; a linear's are [n, k].
void pack_conv_maddubs(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// The way back; `packed` holds packed_bytes_conv_maddubs and is well formed.
void unpack_conv_maddubs(const ConvDims& dims, const std::byte* packed, std::int8_t* weights);
// Whether every panel orders each code of its windows once and names each of its words once. Packed bytes from
// elsewhere are checked before they are used.
bool is_well_formed_maddubs(const ConvDims& dims, const std::byte* packed);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S8_K4_N16_SAFE). Only where
// the processor has AVX2.
void run_conv_maddubs(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
