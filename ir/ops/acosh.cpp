#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_acosh = {
    .op = Op::acosh,
    .name = "acosh",
    .doc = "The non-negative inverse hyperbolic cosine of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::acosh(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::acosh(x); }});
        },
};

}  // namespace aoq
