#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_is_inf = {
    .op = Op::is_inf,
    .name = "is_inf",
    .doc = "True where x is plus or minus infinity.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_float_predicate,
    .reference = [](const EvalContext& c) { return ops::unary_predicate(c, [](double x) { return std::isinf(x); }); },
};

}  // namespace aoq
