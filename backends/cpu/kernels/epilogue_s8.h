// The end of every int8 convolution and linear: an exact int32 accumulator becomes an output element as ir/epilogue.h
// says. This file holds its parameters, the helper that prepares the per-channel arrays, and the scalar definition.
#pragma once

#include <cstdint>
#include <span>

#include "backends/cpu/kernels/activation.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"

namespace aoq::cpu {

// What is the same for all channels. With out_type f32 only residual_type, activation (any kind) and the residual
// count: the residual is then f32. With u8 or s8, activations of kind clamp are not given here but narrow `bounds`.
struct EpilogueS8 {
  DType out_type = DType::u8;
  bool has_residual = false;
  DType residual_type = DType::u8;
  float residual_multiplier = 0.0f;
  std::int32_t residual_zero_point = 0;
  RequantBounds bounds = {0.0f, 255.0f, 0};
  ActivationParams activation;
  float inv_out = 1.0f;
};

// Pointers of one output channel's values: b and m of ir/epilogue.h. With f32 output they are bias and the weight's
// scale, and x_scale is the activation's scale, which may be known only at run time.
struct EpilogueArgs {
  const float* bias = nullptr;
  const float* multiplier = nullptr;
  float x_scale = 1.0f;
  const void* residual = nullptr;
  void* out = nullptr;
};

struct RequantSource {
  std::span<const float> bias;           // one per channel, or empty for zeros
  std::span<const float> weight_scales;  // one per channel, or a single one
  float x_scale = 1.0f;
  float out_scale = 1.0f;
  DType out_type = DType::u8;
  Activation activation = Activation::none;
};

// Writes the epilogue's arrays for channels [0, bias_out.size()), exactly as ir/epilogue.h computes b and m. Channels
// of a kernel's padded array are found by its plan's `epilogue_index`.
void prepare_epilogue(const RequantSource& source, std::span<float> bias_out, std::span<float> multiplier_out);

// Bounds of an output type: [qmin - zero_point, qmax - zero_point].
RequantBounds full_bounds(DType type, std::int32_t zero_point);
// Narrows them by clamp(lo, hi) of real values, which are quantized with the output's scale first.
RequantBounds narrowed_bounds(const RequantBounds& bounds, float lo, float hi, float out_scale);

// Whether no channel's value leaves int32 before it is clamped to codes, and hardswish stays far from the ends of f32's
// range: (|sum| + |b|) * m + |residual| * r_m is small for sums of `products` products.
bool stays_small(const EpilogueS8& epilogue, std::int64_t products, std::span<const float> bias,
                 std::span<const float> multiplier);

// Whether saturation clamps to the codes' bounds and their zero is 0, as after a ReLU.
bool has_whole_codes(const EpilogueS8& epilogue);

// The definition: writes element `index` of args.out (and reads that element of args.residual).
void store_epilogue_scalar(const EpilogueS8& epilogue, const EpilogueArgs& args, std::int64_t channel, std::int32_t acc,
                           std::int64_t index);

}  // namespace aoq::cpu
