#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_ceil = {
    .op = Op::ceil,
    .name = "ceil",
    .doc = "The smallest whole number that is not below x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(
              c, {.f32 = [](float x) { return std::ceil(x); }, .f64 = [](double x) { return std::ceil(x); }});
        },
};

}  // namespace aoq
