#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_cos = {
    .op = Op::cos,
    .name = "cos",
    .doc = "The cosine of x, in radians.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::cos(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::cos(x); }});
        },
};

}  // namespace aoq
