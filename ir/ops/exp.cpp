#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_exp = {
    .op = Op::exp,
    .name = "exp",
    .doc = "e to the power of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = math::exp, .f64 = [](double x) { return std::exp(x); }});
        },
};

}  // namespace aoq
