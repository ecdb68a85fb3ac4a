#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_sign = {
    .op = Op::sign,
    .name = "sign",
    .doc = "-1, 0 or 1 by the sign of x; NaN stays NaN.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_number,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return x > 0   ? 1.0f
                                                            : x < 0 ? -1.0f
                                                                    : x; },
                                .f64 = [](double x) { return x > 0   ? 1.0
                                                             : x < 0 ? -1.0
                                                                     : x; },
                                .integer = [](std::int64_t x) { return std::int64_t{x > 0} - std::int64_t{x < 0}; }});
        },
};

}  // namespace aoq
