#include "ir/ops/reduction.h"

namespace aoq {

const OpDef kOpDef_argmin = {
    .op = Op::argmin,
    .name = "argmin",
    .doc = "The index of the smallest element along an axis, the first of equals; NaN wins.",
    .inputs = {{{"x"}}},
    .attributes = {{{"axis", AttributeKind::integer, "0", ""},
                    ops::kKeepDims,
                    {"select_last", AttributeKind::boolean, "false", "the last of equals"}}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_arg,
    .reference = [](const EvalContext& c) { return ops::arg_extreme(c, ops::Extreme::min); },
};

}  // namespace aoq
