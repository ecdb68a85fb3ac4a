#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_asin = {
    .op = Op::asin,
    .name = "asin",
    .doc = "The angle in [-pi/2, pi/2] whose sine is x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::asin(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::asin(x); }});
        },
};

}  // namespace aoq
