// conv and linear in f32: the reference's chain of fused multiply-adds, so equal bit for bit.
#include "backends/cpu/kernels/conv_f32.h"

#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/rows/conv_nodes.h"
#include "backends/cpu/rows/layouts.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

enum Operand : std::size_t { kX, kWeight, kBias, kResidual };

struct Prepared {
  ConvDims dims;
  EpilogueF32 epilogue;
  std::vector<float> bias;  // one per channel, or padded as the kernel reads it
  const std::byte* weights = nullptr;
};

Result<Prepared> prepare(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  Prepared p;
  AOQ_ASSIGN(p.dims, conv_dims(context));
  AOQ_ASSIGN(p.epilogue.activation, activation_of(context.attributes));
  AOQ_ASSIGN(p.bias, float_constants(context, kBias, p.dims.out_c));
  p.epilogue.has_bias = !p.bias.empty();
  p.epilogue.has_residual = context.node.input(kResidual) != nullptr;
  return p;
}

template <typename Args, typename Plan>
KernelResult kernel_of(const PrepareContext& context, Prepared prepared, const Plan& plan,
                       void (*run)(const Plan&, const Args&, std::int64_t, std::int64_t, std::byte*)) {
  const ConvDims& d = prepared.dims;
  std::int64_t products = d.batch * d.out_h * d.out_w * d.out_c * d.kernel_h * d.kernel_w * (d.in_c / d.groups);
  Split split = split_work(plan.units, products / 8 / std::max<std::int64_t>(plan.units, 1) + 1, context);
  auto worker_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes));
  KernelNeeds needs{.scratch_bytes = worker_bytes * static_cast<std::uint64_t>(split.workers),
                    .in_place_input = prepared.epilogue.has_residual ? static_cast<int>(kResidual) : -1};
  return make_kernel(
      [p = std::move(prepared), plan, run, split, worker_bytes](const RunContext& c) -> Status {
        Args args;
        args.x = input_of<float>(c, kX);
        args.weights = p.weights;
        args.bias = p.bias.data();
        args.residual = p.epilogue.has_residual ? input_of<float>(c, kResidual) : nullptr;
        args.out = output_of<float>(c);
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run(plan, args, begin, end, c.scratch + worker_bytes * static_cast<std::uint64_t>(worker));
        });
        return {};
      },
      needs);
}

}  // namespace

KernelResult make_conv_depthwise_f32(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepare(context));
  if (!is_depthwise(p.dims)) return refuse("the convolution is not depthwise");
  AOQ_ASSIGN(p.weights, packed_input(context, kWeight, kLayoutF32Depthwise, packed_bytes_depthwise_f32(p.dims)));
  DepthwiseF32Plan plan = plan_depthwise_f32(p.dims, p.epilogue, best_isa());
  return kernel_of<DepthwiseF32Args>(context, std::move(p), plan, run_depthwise_f32);
}

KernelResult make_conv_f32(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepare(context));
  if (p.epilogue.has_bias) {
    std::vector<float> padded(static_cast<std::size_t>(padded_channels(p.dims)));
    spread_channels(p.dims, p.bias, padded);
    p.bias = std::move(padded);
  }
  AOQ_ASSIGN(p.weights,
             packed_input(context, kWeight, layout_name(kLayoutF32, p.dims.groups), packed_bytes_conv_f32(p.dims)));
  ConvF32Plan plan = plan_conv_f32(p.dims, p.epilogue, best_isa());
  return kernel_of<ConvF32Args>(context, std::move(p), plan, run_conv_f32);
}

}  // namespace aoq::cpu
