#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_silu = {
    .op = Op::silu,
    .name = "silu",
    .doc = "x * sigmoid(x).",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = ops::infer_same_float,
    .reference = [](const EvalContext& c) { return ops::unary_float(c, math::silu); },
};

}  // namespace aoq
