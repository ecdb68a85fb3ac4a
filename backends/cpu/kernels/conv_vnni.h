// int8 convolution and linear over NHWC for AVX512-VNNI: `vpdpbusd` on four codes at a time, which adds u8 times s8
// products to int32 without saturating. Same meaning and same epilogue as conv_s8.h, to the bit. All else is as
// conv_panels.h says.
//
// Packed weights, layout S8_K4_N16: for every group, for every 16 output channels, 16 int32 sums of w, then
// [ceil(K / 4)][16][4] bytes, K = kernel_h * kernel_w * in_c / groups in that order; what is missing is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/conv_panels.h"

namespace aoq::cpu {

// Pixels of a tile at most.
inline constexpr int kVnniTileRows = 14;
// Those of a tile of codes, of one panel; half as many of two.
inline constexpr int kVnniSmallTileRows = 8;
// Steps of four codes of K that tiles of codes have at most: deeper panels take tall tiles.
inline constexpr std::int64_t kVnniSmallSteps = 512;

// Needs K <= kMaxExactProducts.
ConvPanelsPlan plan_conv_vnni(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t panel_bytes_conv_vnni(const ConvDims& dims);
std::int64_t packed_bytes_conv_vnni(const ConvDims& dims);
// Weights are [out_c, in_c / groups, kernel_h, kernel_w]; a linear's are [n, k].
void pack_conv_vnni(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// Where element (channel, k of K) lies in the packed bytes.
std::int64_t index_conv_vnni(const ConvDims& dims, std::int64_t channel, std::int64_t k);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S8_K4_N16). Only where the
// processor has AVX512-VNNI.
void run_conv_vnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch);

}  // namespace aoq::cpu
