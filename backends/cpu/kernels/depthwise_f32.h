// f32 depthwise convolution over NHWC (in_c = out_c = groups): acc = fma(x, w, acc) over kernel rows and columns in
// that order from +0 (padding has x = +0), then bias, residual and activation as in conv_f32.h.
//
// Packed weights: [taps][channels rounded up to 16] floats, zeros behind the last channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/conv_dims.h"
#include "backends/cpu/kernels/conv_f32.h"

namespace aoq::cpu {

struct DepthwiseF32Plan {
  ConvDims dims;
  EpilogueF32 epilogue;
  Isa isa = Isa::reference;
  std::int64_t units = 0;  // output rows of the batch
  std::int64_t scratch_bytes = 0;
};

// Columns of the padded input that one output row reads.
inline std::int64_t depthwise_columns(const ConvDims& d) {
  return (d.out_w - 1) * d.stride_w + (d.kernel_w - 1) * d.dilation_w + 1;
}

DepthwiseF32Plan plan_depthwise_f32(const ConvDims& dims, const EpilogueF32& epilogue, Isa isa);

std::int64_t packed_bytes_depthwise_f32(const ConvDims& dims);
// Weights are [channels, 1, kernel_h, kernel_w].
void pack_depthwise_f32(const ConvDims& dims, const float* weights, std::span<std::byte> packed);

struct DepthwiseF32Args {
  const float* x = nullptr;
  const std::byte* weights = nullptr;  // packed, 64-byte aligned
  const float* bias = nullptr;         // one per channel, only with has_bias
  const float* residual = nullptr;     // shaped like out, only with has_residual; may be out
  float* out = nullptr;
};

void run_depthwise_f32(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                       std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
