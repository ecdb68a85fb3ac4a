#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_atanh = {
    .op = Op::atanh,
    .name = "atanh",
    .doc = "The inverse hyperbolic tangent of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::atanh(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::atanh(x); }});
        },
};

}  // namespace aoq
