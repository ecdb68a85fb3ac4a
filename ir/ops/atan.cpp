#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_atan = {
    .op = Op::atan,
    .name = "atan",
    .doc = "The angle in (-pi/2, pi/2) whose tangent is x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::atan(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::atan(x); }});
        },
};

}  // namespace aoq
