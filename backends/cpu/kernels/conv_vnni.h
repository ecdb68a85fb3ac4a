// int8 convolution and linear over NHWC for AVX512-VNNI: `vpdpbusd` on four codes at a time, which adds u8 times s8
// products to int32 without saturating. Same meaning and same epilogue as conv_s8.h, to the bit.
//
// How: a sum over codes needs no subtraction of the zero point inside,
//   sum of (x - z) * w = sum of x * w - z * (sum of w),
// so every sum starts at -z * (sum of w); int32 wraps, and the end is exact for K <= 65792. Signed codes are x + 128 as
// u8 with the zero point z + 128. Padding is the code z. Pixels of a 1x1 convolution are read where they are; other
// rows are gathered, a block of pixels at a time.
//
// Packed weights, layout S8_K4_N16: for every group, for every 16 output channels, 16 int32 sums of w, then
// [ceil(K / 4)][16][4] bytes, K = kernel_h * kernel_w * in_c / groups in that order; what is missing is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/kernels/conv_s8.h"

namespace aoq::cpu {

// Pixels of a tile at most.
inline constexpr int kVnniTileRows = 14;

struct ConvVnniPlan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  std::int64_t k = 0;       // products of one output element
  std::int64_t rows = 0;    // output pixels of the whole batch
  std::int64_t panels = 0;  // 16-channel panels of one group
  std::int64_t panel_bytes = 0;
  std::int64_t row_block = 0;  // pixels of one unit
  std::int64_t row_blocks = 0;
  std::int64_t panel_block = 0;  // panels of one unit, even where there are several units
  std::int64_t panel_blocks = 0;
  bool reads_in_place = false;     // rows are pixels of x
  std::int64_t pitch = 0;          // bytes from row to row, of x or of the gathered block
  std::int64_t units = 0;          // independent pieces of work: pass any [begin, end) of them to run
  std::int64_t scratch_bytes = 0;  // per worker, 64-byte aligned
};

// Needs K <= kMaxExactProducts.
ConvVnniPlan plan_conv_vnni(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue);

std::int64_t packed_bytes_conv_vnni(const ConvDims& dims);
// Weights are [out_c, in_c / groups, kernel_h, kernel_w]; a linear's are [n, k].
void pack_conv_vnni(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed);
// Where element (channel, k of K) lies in the packed bytes.
std::int64_t index_conv_vnni(const ConvDims& dims, std::int64_t channel, std::int64_t k);

// Computes units [unit_begin, unit_end) as run_conv_s8 does, arguments alike (weights in S8_K4_N16). Only where the
// processor has AVX512-VNNI.
void run_conv_vnni(const ConvVnniPlan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch);

}  // namespace aoq::cpu
