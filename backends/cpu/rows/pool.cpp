// max_pool, avg_pool and qavg_pool over channels-last tensors.
#include "backends/cpu/kernels/pool.h"

#include <cmath>

#include "backends/cpu/kernels/epilogue_s8.h"
#include "backends/cpu/rows/conv_nodes.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

Result<PoolParams> pool_params(const PrepareContext& context) {
  const Attributes& a = context.attributes;
  if (!a.boolean("channels_last")) return refuse("the kernel reads channels last");
  const std::vector<std::int64_t>& x = context.inputs[0].shape;
  const std::vector<std::int64_t>& y = context.outputs[0].shape;
  if (x.size() > 4) return refuse("the kernel has no three-dimensional form");
  std::size_t spatial = x.size() - 2;
  PoolParams p;
  p.type = context.inputs[0].dtype;
  if (p.type != DType::f32 && !is_byte(p.type)) return refuse("the kernel does not read {}", dtype_name(p.type));
  HeightWidth kernel = window_attribute(a, "kernel", spatial, 1);
  HeightWidth stride = window_attribute(a, "stride", spatial, 1);
  HeightWidth dilation = a.has("dilation") ? window_attribute(a, "dilation", spatial, 1) : HeightWidth{1, 1};
  HeightWidth begin = window_attribute(a, "pads", spatial, 0);
  const std::vector<std::int64_t>& pads = a.integers("pads");
  p.dims = {.batch = x[0],
            .in_h = spatial == 2 ? x[1] : 1,
            .in_w = x[spatial],
            .in_c = x.back(),
            .out_h = spatial == 2 ? y[1] : 1,
            .out_w = y[spatial],
            .out_c = x.back(),
            .kernel_h = kernel.h,
            .kernel_w = kernel.w,
            .stride_h = stride.h,
            .stride_w = stride.w,
            .dilation_h = dilation.h,
            .dilation_w = dilation.w,
            .pad_top = begin.h,
            .pad_left = begin.w};
  p.pad_bottom = pads.empty() || spatial == 1 ? 0 : pads[2];
  p.pad_right = pads.empty() ? 0 : pads.back();
  if (a.has("count_include_pad") && a.boolean("count_include_pad")) p.count = PoolCount::padded;
  return p;
}

KernelResult pool_kernel(const PrepareContext& context, const PoolParams& params) {
  PoolPlan plan = plan_pool(params, best_isa());
  const ConvDims& d = params.dims;
  Split split = split_work(plan.units, d.out_w * d.in_c * d.kernel_h * d.kernel_w / 4 + 1, context);
  auto worker_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes));
  return make_kernel(
      [plan, split, worker_bytes](const RunContext& c) -> Status {
        PoolArgs args{c.inputs[0], c.outputs[0]};
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run_pool(plan, args, begin, end, c.scratch + worker_bytes * static_cast<std::uint64_t>(worker));
        });
        return {};
      },
      {.scratch_bytes = worker_bytes * static_cast<std::uint64_t>(split.workers)});
}

}  // namespace

KernelResult make_max_pool(const PrepareContext& context) {
  AOQ_ASSIGN(PoolParams params, pool_params(context));
  params.kind = PoolKind::max;
  return pool_kernel(context, params);
}

KernelResult make_avg_pool(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  AOQ_ASSIGN(PoolParams params, pool_params(context));
  params.kind = PoolKind::average;
  return pool_kernel(context, params);
}

KernelResult make_qavg_pool(const PrepareContext& context) {
  AOQ_ASSIGN(PoolParams params, pool_params(context));
  const Attributes& a = context.attributes;
  DType out = context.outputs[0].dtype;
  if (!is_byte(params.type) || out != params.type) {
    return refuse("the kernel keeps the type, the node goes from {} to {}", dtype_name(params.type), dtype_name(out));
  }
  params.kind = PoolKind::average;
  params.x_zero_point = integer_attribute(a, "x_zero_point").value_or(0);
  params.x_scale = static_cast<float>(a.real("x_scale"));
  params.out_scale = static_cast<float>(a.real("out_scale"));
  if (!std::isfinite(params.x_scale / params.out_scale)) return refuse("the scales are out of the range of f32");
  params.bounds = full_bounds(out, integer_attribute(a, "out_zero_point").value_or(0));
  return pool_kernel(context, params);
}

}  // namespace aoq::cpu
