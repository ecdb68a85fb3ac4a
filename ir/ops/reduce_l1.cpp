#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

float l1(const float* x, std::int64_t n) {
  std::vector<float> magnitudes(x, x + n);
  for (float& v : magnitudes) v = std::fabs(v);
  return math::reduce_sum(magnitudes.data(), n);
}

double l1_f64(const double* x, std::int64_t n) {
  double total = 0.0;
  for (std::int64_t i = 0; i < n; ++i) total += std::fabs(x[i]);
  return total;
}

std::int64_t l1_integers(const std::int64_t* x, std::int64_t n, DType dtype) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    total = x[i] < 0 && dtype != DType::u64 ? ops::wrap_sub(total, x[i]) : ops::wrap_add(total, x[i]);
  }
  return total;
}

}  // namespace

const OpDef kOpDef_reduce_l1 = {
    .op = Op::reduce_l1,
    .name = "reduce_l1",
    .doc = "The sum of the magnitudes.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_reduce_number,
    .reference =
        [](const EvalContext& c) { return ops::reduce(c, {.f32 = l1, .f64 = l1_f64, .integer = l1_integers}); },
};

}  // namespace aoq
