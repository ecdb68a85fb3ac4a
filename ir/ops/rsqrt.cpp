#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_rsqrt = {
    .op = Op::rsqrt,
    .name = "rsqrt",
    .doc = "1 / sqrt(x).",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(
              c, {.f32 = [](float x) { return 1 / std::sqrt(x); }, .f64 = [](double x) { return 1 / std::sqrt(x); }});
        },
};

}  // namespace aoq
