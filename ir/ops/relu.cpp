#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_relu = {
    .op = Op::relu,
    .name = "relu",
    .doc = "max(x, 0); NaN stays NaN.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::same_scale,
    .infer = ops::infer_same_number,
    .reference = [](const EvalContext& c) { return ops::unary_float(c, [](float x) { return x < 0.0f ? 0.0f : x; }); },
};

}  // namespace aoq
