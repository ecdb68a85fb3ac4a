#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_reciprocal = {
    .op = Op::reciprocal,
    .name = "reciprocal",
    .doc = "1 / x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return 1 / x; }, .f64 = [](double x) { return 1 / x; }});
        },
};

}  // namespace aoq
