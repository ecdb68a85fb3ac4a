#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_cosh = {
    .op = Op::cosh,
    .name = "cosh",
    .doc = "The hyperbolic cosine of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::cosh(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::cosh(x); }});
        },
};

}  // namespace aoq
