#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_round = {
    .op = Op::round,
    .name = "round",
    .doc = "The nearest whole number; halves go to the even one.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(
              c, {.f32 = [](float x) { return std::nearbyint(x); }, .f64 = [](double x) { return std::nearbyint(x); }});
        },
};

}  // namespace aoq
