#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_abs = {
    .op = Op::abs,
    .name = "abs",
    .doc = "The magnitude of x; the lowest integer stays as it is.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_number,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = [](float x) { return std::fabs(x); },
                                .f64 = [](double x) { return std::fabs(x); },
                                .integer = [](std::int64_t x) { return x < 0 ? ops::wrap_sub(0, x) : x; }});
        },
};

}  // namespace aoq
