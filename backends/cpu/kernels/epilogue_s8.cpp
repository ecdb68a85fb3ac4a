#include "backends/cpu/kernels/epilogue_s8.h"

#include <cmath>
#include <cstddef>
#include <limits>

namespace aoq::cpu {
namespace {

std::int32_t byte_at(const void* data, DType type, std::int64_t index) {
  return type == DType::i8 ? static_cast<const std::int8_t*>(data)[index]
                           : static_cast<const std::uint8_t*>(data)[index];
}

void store_byte(void* data, DType type, std::int64_t index, std::int32_t value) {
  if (type == DType::i8) {
    static_cast<std::int8_t*>(data)[index] = static_cast<std::int8_t>(value);
  } else {
    static_cast<std::uint8_t*>(data)[index] = static_cast<std::uint8_t>(value);
  }
}

}  // namespace

void prepare_epilogue(const RequantSource& source, std::span<float> bias_out, std::span<float> multiplier_out) {
  bool is_float = source.out_type == DType::f32;
  bool has_activation = source.activation != Activation::none && source.activation != Activation::clamp;
  for (std::size_t i = 0; i < bias_out.size(); ++i) {
    float weight_scale = source.weight_scales[source.weight_scales.size() == 1 ? 0 : i];
    float bias = source.bias.empty() ? 0.0f : source.bias[i];
    float scale = source.x_scale * weight_scale;
    bias_out[i] = is_float ? bias : bias / scale;
    multiplier_out[i] = is_float ? weight_scale : has_activation ? scale : scale / source.out_scale;
  }
}

RequantBounds full_bounds(DType type, std::int32_t zero_point) {
  std::int32_t qmin = type == DType::i8 ? -128 : 0;
  return {static_cast<float>(qmin - zero_point), static_cast<float>(qmin + 255 - zero_point), zero_point};
}

RequantBounds narrowed_bounds(const RequantBounds& bounds, float lo, float hi, float out_scale) {
  RequantBounds narrowed = bounds;
  float inv_scale = 1.0f / out_scale;
  float q_lo = std::nearbyintf(lo * inv_scale);
  float q_hi = std::nearbyintf(hi * inv_scale);
  if (q_lo > narrowed.lo) narrowed.lo = q_lo < bounds.hi ? q_lo : bounds.hi;
  if (q_hi < narrowed.hi) narrowed.hi = q_hi > narrowed.lo ? q_hi : narrowed.lo;
  return narrowed;
}

bool stays_small(const EpilogueS8& epilogue, std::int64_t products, std::span<const float> bias,
                 std::span<const float> multiplier) {
  const float most_sum = 255.0f * 128.0f * static_cast<float>(products);
  const float residual = epilogue.has_residual ? 255.0f * std::fabs(epilogue.residual_multiplier) : 0.0f;
  const float scale = epilogue.activation.kind == Activation::none ? 1.0f : epilogue.inv_out;
  if (!(scale < 0x1p60f)) return false;
  for (std::size_t i = 0; i < bias.size(); ++i) {
    const float most = (most_sum + std::fabs(bias[i])) * multiplier[i] + residual;
    if (!(most < 0x1p30f && most * scale < 0x1p30f)) return false;
  }
  return true;
}

bool has_whole_codes(const EpilogueS8& epilogue) {
  const RequantBounds& bounds = epilogue.bounds;
  return epilogue.out_type == DType::u8 && bounds.zero_point == 0 && bounds.lo == 0.0f && bounds.hi == 255.0f;
}

void store_epilogue_scalar(const EpilogueS8& epilogue, const EpilogueArgs& args, std::int64_t channel, std::int32_t acc,
                           std::int64_t index) {
  if (epilogue.out_type == DType::f32) {
    float y = static_cast<float>(acc) * (args.x_scale * args.multiplier[channel]);
    y = y + args.bias[channel];
    if (epilogue.has_residual) y = y + static_cast<const float*>(args.residual)[index];
    static_cast<float*>(args.out)[index] = apply_activation(epilogue.activation, y);
    return;
  }
  float v = static_cast<float>(acc) + args.bias[channel];
  v = v * args.multiplier[channel];
  if (epilogue.has_residual) {
    std::int32_t r = byte_at(args.residual, epilogue.residual_type, index) - epilogue.residual_zero_point;
    v = v + static_cast<float>(r) * epilogue.residual_multiplier;
  }
  if (epilogue.activation.kind != Activation::none) {
    v = apply_activation(epilogue.activation, v) * epilogue.inv_out;
  }
  store_byte(args.out, epilogue.out_type, index, round_and_clamp(v, epilogue.bounds));
}

}  // namespace aoq::cpu
