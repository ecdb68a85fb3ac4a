#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_acos = {
    .op = Op::acos,
    .name = "acos",
    .doc = "The angle in [0, pi] whose cosine is x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return static_cast<float>(std::acos(static_cast<double>(x))); },
                                .f64 = [](double x) { return std::acos(x); }});
        },
};

}  // namespace aoq
