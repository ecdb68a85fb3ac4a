#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

float sum_square(const float* x, std::int64_t n) {
  return math::dot(x, x, n);
}

double sum_square_f64(const double* x, std::int64_t n) {
  double total = 0.0;
  for (std::int64_t i = 0; i < n; ++i) total += x[i] * x[i];
  return total;
}

std::int64_t sum_square_integers(const std::int64_t* x, std::int64_t n, DType) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < n; ++i) total = ops::wrap_add(total, ops::wrap_mul(x[i], x[i]));
  return total;
}

}  // namespace

const OpDef kOpDef_reduce_sum_square = {
    .op = Op::reduce_sum_square,
    .name = "reduce_sum_square",
    .doc = "The sum of the squares, a dot product as ir/math.h says; integers wrap.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_reduce_number,
    .reference =
        [](const EvalContext& c) {
          return ops::reduce(c, {.f32 = sum_square, .f64 = sum_square_f64, .integer = sum_square_integers});
        },
};

}  // namespace aoq
