// qmatmul: products of two matrices of codes, exact, with NumPy's broadcasting.
#include <cmath>

#include "backends/cpu/kernels/epilogue_s8.h"
#include "backends/cpu/kernels/matmul_s8.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kMaxBatches = 1 << 20;

// The offsets of every matrix of the broadcast batch.
Result<std::vector<MatmulS8Batch>> batches_of(const PrepareContext& context, const MatmulS8Plan& p) {
  const std::vector<std::int64_t>& a = context.inputs[0].shape;
  const std::vector<std::int64_t>& b = context.inputs[1].shape;
  const std::size_t a_rank = a.size() > 2 ? a.size() - 2 : 0, b_rank = b.size() > 2 ? b.size() - 2 : 0;
  const std::size_t rank = std::max(a_rank, b_rank);
  std::vector<MatmulS8Batch> all{{0, 0, 0}};
  std::int64_t a_stride = p.m * p.k, b_stride = p.k * p.n;
  // The last axis first: every axis repeats what those behind it gave.
  for (std::size_t back = 1; back <= rank; ++back) {
    const std::int64_t in_a = back <= a_rank ? a[a_rank - back] : 1, in_b = back <= b_rank ? b[b_rank - back] : 1;
    const std::int64_t size = in_a == 0 || in_b == 0 ? 0 : std::max(in_a, in_b);
    if (static_cast<std::int64_t>(all.size()) * size > kMaxBatches) return refuse("more than {} products", kMaxBatches);
    const std::vector<MatmulS8Batch> before = std::move(all);
    all.clear();
    for (std::int64_t i = 0; i < size; ++i) {
      for (const MatmulS8Batch& one : before) {
        all.push_back({one.a + (in_a == 1 ? 0 : i * a_stride), one.b + (in_b == 1 ? 0 : i * b_stride), 0});
      }
    }
    a_stride *= in_a;
    b_stride *= in_b;
  }
  for (std::size_t i = 0; i < all.size(); ++i) all[i].out = static_cast<std::int64_t>(i) * p.m * p.n;
  return all;
}

Result<MatmulS8Plan> plan_of(const PrepareContext& context) {
  const std::vector<std::int64_t>& a = context.inputs[0].shape;
  const std::vector<std::int64_t>& b = context.inputs[1].shape;
  const Attributes& attributes = context.attributes;
  MatmulS8Plan p;
  p.k = a.back();
  p.m = a.size() == 1 ? 1 : a[a.size() - 2];
  p.n = b.size() == 1 ? 1 : b.back();
  p.a_type = context.inputs[0].dtype;
  p.b_type = context.inputs[1].dtype;
  p.out_type = attributes.dtype("out_dtype");
  p.a_zero_point = integer_attribute(attributes, "a_zero_point").value_or(0);
  p.b_zero_point = integer_attribute(attributes, "b_zero_point").value_or(0);
  p.isa = best_isa();
  const float a_scale = real_attribute(attributes, "a_scale").value_or(1.0f);
  const float b_scale = real_attribute(attributes, "b_scale").value_or(1.0f);
  float out_scale = 1.0f;
  if (p.out_type == DType::i32) {
    AOQ_ASSIGN(p.batches, batches_of(context, p));
    return p;
  }
  if (p.out_type != DType::f32) {
    out_scale = real_attribute(attributes, "out_scale").value_or(1.0f);
    p.bounds = full_bounds(p.out_type, integer_attribute(attributes, "out_zero_point").value_or(0));
  }
  p.multiplier = a_scale * b_scale / out_scale;
  if (!std::isfinite(p.multiplier)) return refuse("the scales are out of the range of f32");
  AOQ_ASSIGN(p.batches, batches_of(context, p));
  return p;
}

}  // namespace

KernelResult make_qmatmul(const PrepareContext& context) {
  AOQ_ASSIGN(MatmulS8Plan plan, plan_of(context));
  const std::int64_t unit_cost = plan.m * plan.k * 32 / 8 + plan.k * 32 + 1;
  const Split split = split_work(plan.units(), unit_cost, context);
  const auto worker_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes()));
  return make_kernel(
      [plan = std::move(plan), split, worker_bytes](const RunContext& c) -> Status {
        const MatmulS8Args args{c.inputs[0], c.inputs[1], c.outputs[0]};
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run_matmul_s8(plan, args, begin, end, c.scratch + worker_bytes * static_cast<std::uint64_t>(worker));
        });
        return {};
      },
      {.scratch_bytes = worker_bytes * static_cast<std::uint64_t>(split.workers)});
}

}  // namespace aoq::cpu
