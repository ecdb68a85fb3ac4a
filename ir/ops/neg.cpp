#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_neg = {
    .op = Op::neg,
    .name = "neg",
    .doc = "-x; integers wrap.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_number,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return -x; },
                                .f64 = [](double x) { return -x; },
                                .integer = [](std::int64_t x) { return ops::wrap_sub(0, x); }});
        },
};

}  // namespace aoq
