#include <algorithm>
#include <limits>

#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

float reduce(const float* x, std::int64_t n) {
  float best = std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) best = math::minimum(best, x[i]);
  return best;
}

double reduce_f64(const double* x, std::int64_t n) {
  double best = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < n; ++i) best = best != best || best < x[i] ? best : x[i];
  return best;
}

std::int64_t reduce_integers(const std::int64_t* x, std::int64_t n, DType dtype) {
  // Moves the unsigned order onto the signed one. Of no elements the result is the other end of the range.
  std::int64_t flip = dtype == DType::u64 ? INT64_MIN : 0;
  std::int64_t best = dtype_info(dtype).bits == 64 ? INT64_MAX : static_cast<std::int64_t>(dtype_info(dtype).max);
  for (std::int64_t i = 0; i < n; ++i) best = std::min(best, x[i] ^ flip);
  return best ^ flip;
}

}  // namespace

const OpDef kOpDef_reduce_min = {
    .op = Op::reduce_min,
    .name = "reduce_min",
    .doc = "The smallest element; NaN if there is one.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kAxes, ops::kKeepDims}},
    .rule = QuantRule::same_scale,
    .infer = ops::infer_reduce_order,
    .reference =
        [](const EvalContext& c) {
          return ops::reduce(c, {.f32 = reduce, .f64 = reduce_f64, .integer = reduce_integers});
        },
};

}  // namespace aoq
