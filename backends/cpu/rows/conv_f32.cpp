// conv and linear in f32: the reference's chain of fused multiply-adds, so equal bit for bit.
#include "backends/cpu/kernels/conv_f32.h"

#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/permute.h"
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

// Axes moved by `order`: axis i of the result is axis order[i] of `type`.
ConcreteType moved(const ConcreteType& type, std::span<const int> order) {
  ConcreteType result{type.dtype, {}};
  for (int axis : order) result.shape.push_back(type.shape[static_cast<std::size_t>(axis)]);
  return result;
}

// One tensor into another order of axes, split over the pool.
struct Move {
  PermutePlan plan;
  Split split;
  Move(const ConcreteType& from, std::span<const int> order, const PrepareContext& context)
      : plan(plan_permute(from.shape, order, 4)),
        split(split_work(plan.units, element_count(from) / std::max<std::int64_t>(plan.units, 1) + 1, context)) {}
  void run(const RunContext& c, const std::byte* from, std::byte* to) const {
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) { run_permute(plan, from, to, begin, end); });
  }
};

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

KernelResult make_conv_planar_f32(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  std::size_t rank = context.inputs[0].shape.size();
  if (context.attributes.boolean("channels_last")) return refuse("the channels are last already");
  if (rank > 4) return refuse("the kernel has no three-dimensional form");
  if (element_count(context.inputs[0]) == 0 || element_count(context.outputs[0]) == 0)
    return refuse("nothing to compute");
  const std::vector<int> to_last = rank == 3 ? std::vector<int>{0, 2, 1} : std::vector<int>{0, 2, 3, 1};
  const std::vector<int> to_first = rank == 3 ? std::vector<int>{0, 2, 1} : std::vector<int>{0, 3, 1, 2};
  std::vector<ConcreteType> inputs(context.inputs.begin(), context.inputs.end());
  bool has_residual = context.node.input(kResidual) != nullptr;
  inputs[kX] = moved(inputs[kX], to_last);
  if (has_residual) inputs[kResidual] = moved(inputs[kResidual], to_last);
  const ConcreteType output = moved(context.outputs[0], to_last);
  Attributes attributes = context.attributes;
  attributes.set("channels_last", true);
  const PrepareContext inner{context.node,  inputs,          std::span(&output, 1), attributes,
                             context.store, context.workers, context.deterministic};
  KernelResult kernel = make_conv_depthwise_f32(inner);
  if (!kernel.ok()) kernel = make_conv_f32(inner);
  AOQ_TRY(kernel.status());
  Move x(context.inputs[kX], to_last, context);
  Move residual(context.outputs[0], to_last, context);
  Move result(output, to_first, context);
  std::int64_t x_bytes = bytes_to_cache_line(element_count(inputs[kX]) * 4);
  std::int64_t y_bytes = bytes_to_cache_line(element_count(output) * 4);
  KernelNeeds needs{.scratch_bytes = static_cast<std::uint64_t>(x_bytes + y_bytes) + (*kernel)->scratch_bytes()};
  return make_kernel(
      [kernel = std::move(*kernel), x, residual, result, x_bytes, y_bytes,
       has_residual](const RunContext& c) -> Status {
        std::byte* y = c.scratch + x_bytes;
        x.run(c, c.inputs[kX], c.scratch);
        if (has_residual) residual.run(c, c.inputs[kResidual], y);
        const std::byte* operands[] = {c.scratch, nullptr, nullptr, has_residual ? y : nullptr};
        AOQ_TRY(kernel->run({operands, std::span(&y, 1), y + y_bytes, c.pool}));
        result.run(c, y, c.outputs[0]);
        return {};
      },
      needs);
}

}  // namespace aoq::cpu
