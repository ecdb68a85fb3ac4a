#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_is_nan = {
    .op = Op::is_nan,
    .name = "is_nan",
    .doc = "True where x is NaN.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_float_predicate,
    .reference = [](const EvalContext& c) { return ops::unary_predicate(c, [](double x) { return std::isnan(x); }); },
};

}  // namespace aoq
