// Batched f32 matrix products with NumPy's broadcasting: the reference's chain, so equal bit for bit.
#include "backends/cpu/kernels/matmul_f32.h"

#include "backends/cpu/rows/rows.h"
#include "ir/type.h"

namespace aoq::cpu {
namespace {

struct BatchAxis {
  std::int64_t size, a, b;
};

// The batch axes as at most two; more only where the operands broadcast in turns.
Result<std::vector<BatchAxis>> batch_axes(const PrepareContext& context, std::int64_t a_matrix, std::int64_t b_matrix) {
  const std::vector<std::int64_t>& a = context.inputs[0].shape;
  const std::vector<std::int64_t>& b = context.inputs[1].shape;
  std::size_t a_rank = a.size() > 2 ? a.size() - 2 : 0;
  std::size_t b_rank = b.size() > 2 ? b.size() - 2 : 0;
  std::vector<BatchAxis> axes;  // the last one first
  std::int64_t a_stride = a_matrix, b_stride = b_matrix;
  for (std::size_t back = 1; back <= std::max(a_rank, b_rank); ++back) {
    std::int64_t in_a = back <= a_rank ? a[a_rank - back] : 1;
    std::int64_t in_b = back <= b_rank ? b[b_rank - back] : 1;
    BatchAxis axis{std::max(in_a, in_b), in_a == 1 ? 0 : a_stride, in_b == 1 ? 0 : b_stride};
    if (in_a == 0 || in_b == 0) axis.size = 0;
    a_stride *= in_a;
    b_stride *= in_b;
    if (axis.size == 1) continue;
    if (!axes.empty() && axis.a == axes.back().a * axes.back().size && axis.b == axes.back().b * axes.back().size) {
      axes.back().size *= axis.size;
    } else {
      axes.push_back(axis);
    }
  }
  if (axes.size() > 2) return refuse("the operands broadcast over more than two groups of axes");
  axes.resize(2, {1, 0, 0});
  return axes;
}

}  // namespace

KernelResult make_matmul_f32(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  const std::vector<std::int64_t>& a = context.inputs[0].shape;
  const std::vector<std::int64_t>& b = context.inputs[1].shape;
  MatmulDims d;
  d.k = a.back();
  d.m = a.size() == 1 ? 1 : a[a.size() - 2];
  d.n = b.size() == 1 ? 1 : b.back();
  AOQ_ASSIGN(std::vector<BatchAxis> axes, batch_axes(context, d.m * d.k, d.k * d.n));
  d.inner = axes[0].size;
  d.a_inner = axes[0].a;
  d.b_inner = axes[0].b;
  d.out_inner = d.m * d.n;
  d.outer = axes[1].size;
  d.a_outer = axes[1].a;
  d.b_outer = axes[1].b;
  d.out_outer = d.inner * d.out_inner;
  d.a_row = d.k;
  d.b_k = b.size() == 1 ? 1 : d.n;
  d.b_n = b.size() == 1 ? d.k : 1;
  d.out_row = d.n;
  MatmulF32Plan plan = plan_matmul_f32(d, best_isa());
  std::int64_t products = d.outer * d.inner * d.m * d.n * d.k;
  Split split = split_work(plan.units, products / 8 / std::max<std::int64_t>(plan.units, 1) + 1, context);
  auto worker_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes));
  return make_kernel(
      [plan, split, worker_bytes](const RunContext& c) -> Status {
        MatmulF32Args args{input_of<float>(c, 0), input_of<float>(c, 1), output_of<float>(c)};
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run_matmul_f32(plan, args, begin, end, c.scratch + worker_bytes * static_cast<std::uint64_t>(worker));
        });
        return {};
      },
      {.scratch_bytes = worker_bytes * static_cast<std::uint64_t>(split.workers)});
}

}  // namespace aoq::cpu
