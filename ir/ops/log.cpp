#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_log = {
    .op = Op::log,
    .name = "log",
    .doc = "The natural logarithm of x; NaN below 0.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_same_float,
    .reference =
        [](const EvalContext& c) {
          return ops::unary(c, {.f32 = math::log, .f64 = [](double x) { return std::log(x); }});
        },
};

}  // namespace aoq
