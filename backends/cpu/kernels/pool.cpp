#include "backends/cpu/kernels/pool.h"

#include <algorithm>
#include <limits>

#include "backends/cpu/kernels/byte_codes.h"
#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

// Calls visit(flat index of channel 0) for every tap inside the image, and returns the count to divide by.
template <typename Visit>
std::int64_t for_each_tap(const PoolParams& p, std::int64_t pixel, Visit visit) {
  const ConvDims& d = p.dims;
  std::int64_t ox = pixel % d.out_w;
  std::int64_t oy = pixel / d.out_w % d.out_h;
  std::int64_t image = pixel / d.out_w / d.out_h;
  std::int64_t count = 0;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh) {
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw) {
      std::int64_t iy = oy * d.stride_h - d.pad_top + kh * d.dilation_h;
      std::int64_t ix = ox * d.stride_w - d.pad_left + kw * d.dilation_w;
      bool inside = iy >= 0 && iy < d.in_h && ix >= 0 && ix < d.in_w;
      bool padded = iy < d.in_h + p.pad_bottom && ix < d.in_w + p.pad_right;
      if (inside || (padded && p.count == PoolCount::padded)) ++count;
      if (inside) visit(((image * d.in_h + iy) * d.in_w + ix) * d.in_c);
    }
  }
  return count;
}

void pool_codes(const PoolParams& p, const PoolArgs& args, std::int64_t pixel, std::int64_t channel) {
  std::int64_t at = pixel * p.dims.in_c + channel;
  if (p.kind == PoolKind::max) {
    std::int32_t best = p.type == DType::i8 ? -128 : 0;
    for_each_tap(p, pixel, [&](std::int64_t tap) { best = std::max(best, load_code(args.x, p.type, tap + channel)); });
    store_code(args.out, p.type, at, best);
    return;
  }
  std::int32_t sum = 0;
  std::int64_t count = for_each_tap(
      p, pixel, [&](std::int64_t tap) { sum += load_code(args.x, p.type, tap + channel) - p.x_zero_point; });
  float multiplier = p.x_scale / p.out_scale / static_cast<float>(std::max<std::int64_t>(count, 1));
  store_code(args.out, p.type, at, round_and_clamp(static_cast<float>(sum) * multiplier, p.bounds));
}

void pool_floats(const PoolParams& p, const PoolArgs& args, std::int64_t pixel, std::int64_t channel) {
  const auto* x = static_cast<const float*>(args.x) + channel;
  float* out = static_cast<float*>(args.out) + pixel * p.dims.in_c + channel;
  if (p.kind == PoolKind::max) {
    float best = -std::numeric_limits<float>::infinity();
    for_each_tap(p, pixel, [&](std::int64_t tap) { best = math::maximum(best, x[tap]); });
    *out = best;
    return;
  }
  float sum = 0.0f;
  std::int64_t count = for_each_tap(p, pixel, [&](std::int64_t tap) { sum = sum + x[tap]; });
  *out = sum / static_cast<float>(std::max<std::int64_t>(count, 1));
}

}  // namespace

PoolPlan plan_pool(const PoolParams& params, Isa isa) {
  PoolPlan plan;
  plan.params = params;
  plan.isa = isa;
  plan.units = params.dims.batch * params.dims.out_h;
  if (isa == Isa::reference) return plan;
  plan.scratch_bytes = round_up(params.dims.kernel_h * params.dims.kernel_w * 8, 64);
  return plan;
}

void run_pool(const PoolPlan& plan, const PoolArgs& args, std::int64_t unit_begin, std::int64_t unit_end,
              std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx2) return run_pool_avx2(plan, args, unit_begin, unit_end, scratch);
#endif
  const ConvDims& d = plan.params.dims;
  for (std::int64_t pixel = unit_begin * d.out_w; pixel < unit_end * d.out_w; ++pixel) {
    for (std::int64_t channel = 0; channel < d.in_c; ++channel) {
      if (plan.params.type == DType::f32) {
        pool_floats(plan.params, args, pixel, channel);
      } else {
        pool_codes(plan.params, args, pixel, channel);
      }
    }
  }
}

}  // namespace aoq::cpu
