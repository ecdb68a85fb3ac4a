#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

float mean(const float* x, std::int64_t n) {
  return math::reduce_sum(x, n) / static_cast<float>(n);
}

double mean_f64(const double* x, std::int64_t n) {
  double total = 0.0;
  for (std::int64_t i = 0; i < n; ++i) total += x[i];
  return total / static_cast<double>(n);
}

std::int64_t mean_integers(const std::int64_t* x, std::int64_t n, DType) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < n; ++i) total = ops::wrap_add(total, x[i]);
  return n == 0 ? 0 : total / n;
}

}  // namespace

const OpDef kOpDef_reduce_mean = {
    .op = Op::reduce_mean,
    .name = "reduce_mean",
    .doc = "The sum over 16 lanes divided by the number of elements; integers truncate.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::requantize,
    .infer = ops::infer_reduce_number,
    .reference =
        [](const EvalContext& c) { return ops::reduce(c, {.f32 = mean, .f64 = mean_f64, .integer = mean_integers}); },
};

}  // namespace aoq
