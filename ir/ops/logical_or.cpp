#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_logical_or = {
    .op = Op::logical_or,
    .name = "logical_or",
    .doc = "True where either is, with broadcasting.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::float_only,
    .infer = ops::infer_logical,
    .reference =
        [](const EvalContext& c) {
          return ops::binary(c, {.integer = [](std::int64_t a, std::int64_t b) { return a | b; }});
        },
};

}  // namespace aoq
