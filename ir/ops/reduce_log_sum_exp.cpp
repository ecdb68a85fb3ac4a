#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

float log_sum_exp(const float* x, std::int64_t n) {
  float max = math::reduce_max(x, n);
  if (std::isinf(max)) return max;
  std::vector<float> terms(x, x + n);
  for (float& v : terms) v = math::exp(v - max);
  return math::log(math::reduce_sum(terms.data(), n)) + max;
}

}  // namespace

const OpDef kOpDef_reduce_log_sum_exp = {
    .op = Op::reduce_log_sum_exp,
    .name = "reduce_log_sum_exp",
    .doc = "log(sum(exp(x))), with the largest element taken out first.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_reduce_float,
    .reference = [](const EvalContext& c) { return ops::reduce(c, {.f32 = log_sum_exp}); },
};

}  // namespace aoq
