#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_hardswish = {
    .op = Op::hardswish,
    .name = "hardswish",
    .doc = "x * clamp(x + 3, 0, 6) / 6.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = ops::infer_same_float,
    .reference = [](const EvalContext& c) { return ops::unary_float(c, math::hardswish); },
};

}  // namespace aoq
