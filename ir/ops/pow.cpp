#include "ir/ops/common.h"

namespace aoq {

namespace {

// Wraps; a negative exponent gives the truncated reciprocal.
std::int64_t integer_pow(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    return 0;
  }
  std::int64_t result = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = ops::wrap_mul(result, base);
    base = ops::wrap_mul(base, base);
  }
  return result;
}

}  // namespace

const OpDef kOpDef_pow = {
    .op = Op::pow,
    .name = "pow",
    .doc = "a to the power of b with broadcasting; integers wrap.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_broadcast,
    .reference =
        [](const EvalContext& c) {
          return ops::binary(c,
                             {.f32 =
                                  [](float a, float b) {
                                    return static_cast<float>(std::pow(static_cast<double>(a), static_cast<double>(b)));
                                  },
                              .f64 = [](double a, double b) { return std::pow(a, b); },
                              .integer = integer_pow});
        },
};

}  // namespace aoq
