#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_sqrt = {
    .op = Op::sqrt,
    .name = "sqrt",
    .doc = "The square root of x; NaN below 0.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(
              c, {.f32 = [](float x) { return std::sqrt(x); }, .f64 = [](double x) { return std::sqrt(x); }});
        },
};

}  // namespace aoq
