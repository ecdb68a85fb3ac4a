#include "ir/ops/reduction.h"

namespace aoq {

namespace {

template <typename T>
T product(const T* x, std::int64_t n) {
  T total = 1;
  for (std::int64_t i = 0; i < n; ++i) total *= x[i];
  return total;
}

std::int64_t product_integers(const std::int64_t* x, std::int64_t n, DType) {
  std::int64_t total = 1;
  for (std::int64_t i = 0; i < n; ++i) total = ops::wrap_mul(total, x[i]);
  return total;
}

}  // namespace

const OpDef kOpDef_reduce_prod = {
    .op = Op::reduce_prod,
    .name = "reduce_prod",
    .doc = "The product in row-major order; integers wrap.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_reduce_number,
    .reference =
        [](const EvalContext& c) {
          return ops::reduce(c, {.f32 = product<float>, .f64 = product<double>, .integer = product_integers});
        },
};

}  // namespace aoq
