#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_logical_not = {
    .op = Op::logical_not,
    .name = "logical_not",
    .doc = "True where x is false.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_logical,
    .reference = [](const EvalContext& c) { return ops::unary_predicate(c, [](double x) { return x == 0.0; }); },
};

}  // namespace aoq
