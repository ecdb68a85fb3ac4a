#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

double sum(const double* x, std::int64_t n) {
  double total = 0.0;
  for (std::int64_t i = 0; i < n; ++i) total += x[i];
  return total;
}

std::int64_t sum_integers(const std::int64_t* x, std::int64_t n, DType) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < n; ++i) total = ops::wrap_add(total, x[i]);
  return total;
}

}  // namespace

const OpDef kOpDef_reduce_sum = {
    .op = Op::reduce_sum,
    .name = "reduce_sum",
    .doc = "The sum over 16 lanes, as ir/math.h says; integers wrap.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_reduce_number,
    .reference =
        [](const EvalContext& c) {
          return ops::reduce(c, {.f32 = math::reduce_sum, .f64 = sum, .integer = sum_integers});
        },
};

}  // namespace aoq
