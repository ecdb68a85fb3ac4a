#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_floor = {
    .op = Op::floor,
    .name = "floor",
    .doc = "The largest whole number that is not above x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(
              c, {.f32 = [](float x) { return std::floor(x); }, .f64 = [](double x) { return std::floor(x); }});
        },
};

}  // namespace aoq
