#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_erf = {
    .op = Op::erf,
    .name = "erf",
    .doc = "The error function of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = math::erf, .f64 = [](double x) { return std::erf(x); }});
        },
};

}  // namespace aoq
