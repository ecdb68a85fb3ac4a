#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_mul = {
    .op = Op::mul,
    .name = "mul",
    .doc = "a * b with broadcasting; integers wrap.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::requantize,
    .infer = ops::infer_broadcast,
    .reference =
        [](const EvalContext& c) {
          return ops::binary(c, {.f32 = [](float a, float b) { return a * b; },
                                 .f64 = [](double a, double b) { return a * b; },
                                 .integer = ops::wrap_mul});
        },
};

}  // namespace aoq
