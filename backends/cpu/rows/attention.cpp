// attention: blocks of rows of a head, one after the other through both products.
#include "backends/cpu/kernels/attention.h"

#include "backends/cpu/rows/rows.h"
#include "ir/dtype.h"

namespace aoq::cpu {
namespace {

enum Operand : std::size_t { kQ, kK, kV, kMask };

// The steps of the mask's dimensions, as seen from [batch, heads, rows, columns].
void set_mask(const PrepareContext& context, AttentionDims* d) {
  if (context.node.input(kMask) == nullptr) return;
  const std::vector<std::int64_t>& shape = context.inputs[kMask].shape;
  std::int64_t* const steps[] = {&d->mask_column, &d->mask_row, &d->mask_head, &d->mask_batch};
  std::int64_t stride = 1;
  for (std::size_t back = 0; back < shape.size(); ++back) {
    const std::int64_t size = shape[shape.size() - 1 - back];
    *steps[back] = size == 1 ? 0 : stride;
    stride *= size;
  }
}

AttentionPlan plan_of(const PrepareContext& context) {
  const std::vector<std::int64_t>& q = context.inputs[kQ].shape;
  const std::vector<std::int64_t>& v = context.inputs[kV].shape;
  AttentionPlan plan;
  plan.dims = {.batch = q[0], .heads = q[2], .rows = q[1], .columns = v[1], .depth = q[3], .width = v[3]};
  set_mask(context, &plan.dims);
  const std::optional<float> scale = real_attribute(context.attributes, "scale");
  const std::optional<float> divisor = real_attribute(context.attributes, "divisor");
  plan.scores.has_scale = scale.has_value();
  plan.scores.has_divisor = divisor.has_value();
  plan.scores.scale = scale.value_or(1.0f);
  plan.scores.divisor = divisor.value_or(1.0f);
  plan.gives_codes = context.outputs[0].dtype != DType::f32;
  plan.isa = best_isa();
  if (!plan.gives_codes) return plan;
  const DTypeInfo& info = dtype_info(context.outputs[0].dtype);
  plan.codes = {.type = context.outputs[0].dtype,
                .inv_scale = 1.0f / static_cast<float>(context.attributes.real("out_scale")),
                .zero_point = integer_attribute(context.attributes, "out_zero_point").value_or(0),
                .qmin = static_cast<std::int32_t>(info.min),
                .qmax = static_cast<std::int32_t>(info.max)};
  return plan;
}

using RunAttention = void (*)(const AttentionPlan&, const AttentionArgs&, std::int64_t, std::int64_t, std::byte*);

KernelResult make(const PrepareContext& context, const AttentionPlan& plan, RunAttention run) {
  const AttentionDims& d = plan.dims;
  const std::int64_t cost = plan.block * d.columns * ((d.depth + d.width) / 8 + 4);
  Split split = split_work(plan.units(), cost, context);
  auto worker_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes));
  return make_kernel(
      [plan, split, worker_bytes, run](const RunContext& c) -> Status {
        AttentionArgs args{input_of<float>(c, kQ), input_of<float>(c, kK), input_of<float>(c, kV),
                           input_of<float>(c, kMask), c.outputs[0]};
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run(plan, args, begin, end, c.scratch + worker_bytes * static_cast<std::uint64_t>(worker));
        });
        return {};
      },
      {.scratch_bytes = worker_bytes * static_cast<std::uint64_t>(split.workers)});
}

// Some more units than workers even out their ends.
std::int64_t units_for(const PrepareContext& context) {
  return context.workers == 1 ? 1 : 3 * context.workers;
}

// Where the result has no elements nothing that is stored bounds the number of scores, so none are planned.
bool is_empty(const PrepareContext& context) {
  return element_count(context.outputs[0]) == 0;
}
KernelResult make_nothing() {
  return make_kernel([](const RunContext&) -> Status { return {}; }, {});
}

}  // namespace

KernelResult make_attention_f32(const PrepareContext& context) {
  if (context.attributes.string("arithmetic") != "f32") return refuse("the kernel computes in f32");
  if (is_empty(context)) return make_nothing();
  AttentionPlan plan = plan_of(context);
  plan_attention_f32(plan, units_for(context));
  return make(context, plan, run_attention_f32);
}

KernelResult make_attention_s8(const PrepareContext& context) {
  if (context.attributes.string("arithmetic") != "int8") return refuse("the kernel computes in int8");
  if (is_empty(context)) return make_nothing();
  AttentionPlan plan = plan_of(context);
  plan_attention_s8(plan, units_for(context));
  return make(context, plan, run_attention_s8);
}

}  // namespace aoq::cpu
