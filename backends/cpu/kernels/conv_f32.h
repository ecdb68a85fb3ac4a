// f32 convolution and linear over NHWC, dense and grouped; depthwise has its own kernel.
//
// Definition of one output element:
//   acc = +0; for kernel row, kernel column, input channel in that order: acc = fma(x, w, acc); a kernel row
//         above or below the image is left out, beside the image x is +0
//   y   = acc, then + bias, then + residual, then activation                                    absent parts do nothing
//
// Packed weights, layout F32_N16: for every group, for every 16 output channels, [K][16] floats; missing channels are
// 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/conv_dims.h"

namespace aoq::cpu {

// Everything but the epilogue's pointers; also used by the depthwise kernel and the matrix product.
struct EpilogueF32 {
  ActivationParams activation;
  bool has_bias = false;
  bool has_residual = false;
};

// Of one tile of rows in scratch.
inline constexpr std::int64_t kRowTileBytes = 32;

struct ConvF32Plan {
  ConvDims dims;
  EpilogueF32 epilogue;
  Isa isa = Isa::reference;
  std::int64_t k = 0;
  std::int64_t rows = 0;    // output pixels of the whole batch
  std::int64_t panels = 0;  // 16-channel panels of one group
  std::int64_t row_block = 0;
  std::int64_t row_blocks = 0;
  std::int64_t panel_block = 0;
  std::int64_t panel_blocks = 0;
  bool x_is_matrix = false;
  bool joins_taps = false;        // few input channels: a run is a kernel row, not a tap
  std::int64_t runs = 1;          // stretches of the input that one output pixel reads through a pointer each
  std::int64_t tiles = 0;         // of one row block at most
  std::int64_t acc_columns = 16;  // of the accumulators in scratch
  std::int64_t units = 0;
  std::int64_t scratch_bytes = 0;  // per worker, 64-byte aligned
};

ConvF32Plan plan_conv_f32(const ConvDims& dims, const EpilogueF32& epilogue, Isa isa);

std::int64_t packed_bytes_conv_f32(const ConvDims& dims);
// Weights are [out_c, in_c / groups, kernel_h, kernel_w]; a linear's are [n, k].
void pack_conv_f32(const ConvDims& dims, const float* weights, std::span<std::byte> packed);

struct ConvF32Args {
  const float* x = nullptr;
  const std::byte* weights = nullptr;  // packed, 64-byte aligned
  const float* bias = nullptr;         // padded_channels entries (see conv_s8.h), only with has_bias
  const float* residual = nullptr;     // shaped like out, only with has_residual; may be out
  float* out = nullptr;
};

void run_conv_f32(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                  std::byte* scratch);

}  // namespace aoq::cpu
