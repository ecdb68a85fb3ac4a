// Maximum and average pooling over NHWC, 8-bit codes and f32. A global pool has the kernel of the image's size.
//
// Maximum: over the taps inside the image (math::maximum from -infinity for f32). Average of codes: S = exact int32 sum
// of the taps inside the image minus their zero points; round_and_clamp(float(S) * ((x_scale / out_scale) / count)).
// Average of f32: acc = +0; acc = acc + x over the taps inside, kernel rows and columns in order; acc / count.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/conv_dims.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"

namespace aoq::cpu {

enum class PoolKind : std::uint8_t { max, average };
// What an average divides by: the taps inside the image, or also those in the padding (but not behind it, where a
// window of a rounded-up output size may reach).
enum class PoolCount : std::uint8_t { inside, padded };

struct PoolParams {
  ConvDims dims;  // in_c = out_c, groups is not used
  PoolKind kind = PoolKind::max;
  PoolCount count = PoolCount::inside;
  std::int64_t pad_bottom = 0;
  std::int64_t pad_right = 0;
  DType type = DType::u8;  // u8, i8 or f32; the output's too
  // Average of codes only.
  std::int32_t x_zero_point = 0;
  float x_scale = 1.0f;
  float out_scale = 1.0f;
  RequantBounds bounds = {0.0f, 255.0f, 0};
};

struct PoolPlan {
  PoolParams params;
  Isa isa = Isa::reference;
  std::int64_t units = 0;  // output rows of the batch
  std::int64_t scratch_bytes = 0;
};

PoolPlan plan_pool(const PoolParams& params, Isa isa);

struct PoolArgs {
  const void* x = nullptr;
  void* out = nullptr;
};
void run_pool(const PoolPlan& plan, const PoolArgs& args, std::int64_t unit_begin, std::int64_t unit_end,
              std::byte* scratch);

}  // namespace aoq::cpu
