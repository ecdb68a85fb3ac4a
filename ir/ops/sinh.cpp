#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_sinh = {
    .op = Op::sinh,
    .name = "sinh",
    .doc = "The hyperbolic sine of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::sinh(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::sinh(x); }});
        },
};

}  // namespace aoq
