#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

float l2(const float* x, std::int64_t n) {
  return std::sqrt(math::dot(x, x, n));
}

double l2_f64(const double* x, std::int64_t n) {
  double total = 0.0;
  for (std::int64_t i = 0; i < n; ++i) total += x[i] * x[i];
  return std::sqrt(total);
}

}  // namespace

const OpDef kOpDef_reduce_l2 = {
    .op = Op::reduce_l2,
    .name = "reduce_l2",
    .doc = "The square root of the sum of the squares.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_reduce_float,
    .reference = [](const EvalContext& c) { return ops::reduce(c, {.f32 = l2, .f64 = l2_f64}); },
};

}  // namespace aoq
