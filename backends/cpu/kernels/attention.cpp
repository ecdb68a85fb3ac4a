#include "backends/cpu/kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/kernels/conv_blocks.h"

namespace aoq::cpu {
namespace {

// Scores of a block in floats: 768 KB. What a larger block saves in packing outweighs that its scores leave the second
// cache.
constexpr std::int64_t kBlockScores = 192 * 1024;
// A block packs k and v, which takes some rows' worth of time.
constexpr std::int64_t kLeastRows = 24;

std::int64_t aligned(std::int64_t floats) {
  return round_up(floats * 4, 64);
}

void run_unit(const AttentionPlan& plan, const AttentionUnit& u, void* out, std::byte* scratch) {
  const AttentionDims& d = plan.dims;
  auto* scores = reinterpret_cast<float*>(scratch);
  auto* mixed = reinterpret_cast<float*>(scratch + aligned(plan.block * d.columns));
  std::byte* spare = scratch + aligned(plan.block * d.columns) + aligned(plan.gives_codes ? plan.block * d.width : 0);
  MatmulF32Plan product = plan.score_product;
  product.dims.m = u.rows;
  run_matmul_f32(product, {u.q, u.k, scores}, 0, product.units, spare);
  ScoresF32 steps = plan.scores;
  steps.mask = u.mask;
  steps.mask_row = d.mask_row;
  steps.mask_column = d.mask_column;
  softmax_scores_f32(plan.isa, steps, {scores, scores, u.rows, d.columns});
  product = plan.mix_product;
  product.dims.m = u.rows;
  if (!plan.gives_codes) mixed = static_cast<float*>(out) + u.out;
  run_matmul_f32(product, {scores, u.v, mixed}, 0, product.units, spare);
  for (std::int64_t row = 0; plan.gives_codes && row < u.rows; ++row) {
    auto* codes = static_cast<std::byte*>(out) + u.out + row * d.heads * d.width;
    quantize_f32(plan.isa, plan.codes, mixed + row * d.width, codes, d.width);
  }
}

// Division by a power of two is a multiplication by another one: both round the same number.
void divide_by_multiplying(ScoresF32& scores) {
  int exponent = 0;
  if (!scores.has_divisor || scores.has_scale || std::frexp(scores.divisor, &exponent) != 0.5f) return;
  if (!std::isnormal(1.0f / scores.divisor)) return;
  scores.has_scale = true;
  scores.scale = 1.0f / scores.divisor;
  scores.has_divisor = false;
}

}  // namespace

std::int64_t attention_block(const AttentionDims& d, std::int64_t units) {
  std::int64_t near = std::max(kBlockScores / std::max<std::int64_t>(d.columns, 1), kLeastRows);
  std::int64_t heads = std::max<std::int64_t>(d.batch * d.heads, 1);
  std::int64_t blocks = std::max(ceil_div(d.rows, near), ceil_div(units, heads));
  return std::max(std::min(kLeastRows, d.rows), ceil_div(d.rows, std::max<std::int64_t>(blocks, 1)));
}

AttentionUnit attention_unit(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t unit) {
  const AttentionDims& d = plan.dims;
  AttentionUnit u{};
  u.row = unit % plan.blocks * plan.block;
  u.rows = std::min(plan.block, d.rows - u.row);
  u.head = unit / plan.blocks % d.heads;
  u.batch = unit / plan.blocks / d.heads;
  u.q = args.q + ((u.batch * d.rows + u.row) * d.heads + u.head) * d.depth;
  u.k = args.k + (u.batch * d.columns * d.heads + u.head) * d.depth;
  u.v = args.v + (u.batch * d.columns * d.heads + u.head) * d.width;
  if (args.mask != nullptr) u.mask = args.mask + u.batch * d.mask_batch + u.head * d.mask_head + u.row * d.mask_row;
  u.out = ((u.batch * d.rows + u.row) * d.heads + u.head) * d.width;
  return u;
}

void plan_attention_f32(AttentionPlan& plan, std::int64_t units) {
  const AttentionDims& d = plan.dims;
  divide_by_multiplying(plan.scores);
  plan.block = attention_block(d, units);
  plan.blocks = plan.block == 0 ? 0 : ceil_div(d.rows, plan.block);
  MatmulDims scores;
  scores.m = plan.block;
  scores.n = d.columns;
  scores.k = d.depth;
  scores.a_row = scores.b_n = d.heads * d.depth;
  scores.b_k = 1;
  scores.out_row = d.columns;
  plan.score_product = plan_matmul_f32(scores, plan.isa);
  MatmulDims mix;
  mix.m = plan.block;
  mix.n = d.width;
  mix.k = mix.a_row = d.columns;
  mix.b_k = d.heads * d.width;
  mix.b_n = 1;
  mix.out_row = plan.gives_codes ? d.width : d.heads * d.width;
  plan.mix_product = plan_matmul_f32(mix, plan.isa);
  plan.scratch_bytes = aligned(plan.block * d.columns) + aligned(plan.gives_codes ? plan.block * d.width : 0) +
                       round_up(std::max(plan.score_product.scratch_bytes, plan.mix_product.scratch_bytes), 64);
}

void run_attention_f32(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t begin, std::int64_t end,
                       std::byte* scratch) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    run_unit(plan, attention_unit(plan, args, unit), args.out, scratch);
  }
}

}  // namespace aoq::cpu
