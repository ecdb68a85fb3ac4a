#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_sin = {
    .op = Op::sin,
    .name = "sin",
    .doc = "The sine of x, in radians.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::sin(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::sin(x); }});
        },
};

}  // namespace aoq
