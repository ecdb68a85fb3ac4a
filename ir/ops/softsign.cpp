#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_softsign = {
    .op = Op::softsign,
    .name = "softsign",
    .doc = "x / (1 + |x|).",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return x / (1 + std::fabs(x)); },
                                .f64 = [](double x) { return x / (1 + std::fabs(x)); }});
        },
};

}  // namespace aoq
