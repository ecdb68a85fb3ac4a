#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_sigmoid = {
    .op = Op::sigmoid,
    .name = "sigmoid",
    .doc = "1 / (1 + exp(-x)).",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::fixed_qparams,
    .fixed_scale = 1.0f / 256.0f,
    .fixed_zero_point = 0,
    .infer = ops::infer_same_float,
    .reference = [](const EvalContext& c) { return ops::unary_float(c, math::sigmoid); },
};

}  // namespace aoq
