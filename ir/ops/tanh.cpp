#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_tanh = {
    .op = Op::tanh,
    .name = "tanh",
    .doc = "The hyperbolic tangent of x.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::fixed_qparams,
    .fixed_scale = 2.0f / 256.0f,
    .fixed_zero_point = 128,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = math::tanh, .f64 = [](double x) { return std::tanh(x); }});
        },
};

}  // namespace aoq
