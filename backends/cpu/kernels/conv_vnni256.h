// int8 convolution and linear over NHWC for AVX-VNNI, and in the same form for AVX512-VNNI's 256-bit vectors:
// `vpdpbusd` on four codes at a time, which adds u8 times s8 products to int32 without saturating. Same meaning and
// same epilogue as conv_s8.h, to the bit; all else is as conv_panels.h says. Weights are packed as in conv_vnni.h,
// layout S8_K4_N16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/conv_panels.h"

namespace aoq::cpu {

// Pixels of a tile at most.
inline constexpr int kVnni256TileRows = 6;

// Needs K <= kMaxExactProducts.
ConvPanelsPlan plan_conv_vnni256(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S8_K4_N16). Only where the
// processor has AVX-VNNI or AVX512-VNNI.
void run_conv_vnni256(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
