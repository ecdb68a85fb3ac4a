#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_mish = {
    .op = Op::mish,
    .name = "mish",
    .doc = "x * tanh(log(1 + exp(x))).",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary_float(c, [](float x) { return x * math::tanh(math::softplus(x)); });
        },
};

}  // namespace aoq
