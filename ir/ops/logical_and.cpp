#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_logical_and = {
    .op = Op::logical_and,
    .name = "logical_and",
    .doc = "True where both are, with broadcasting.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::float_only,
    .infer = ops::infer_logical,
    .reference =
        [](const EvalContext& c) {
          return ops::binary(c, {.integer = [](std::int64_t a, std::int64_t b) { return a & b; }});
        },
};

}  // namespace aoq
