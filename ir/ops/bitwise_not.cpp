#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_bitwise_not = {
    .op = Op::bitwise_not,
    .name = "bitwise_not",
    .doc = "Every bit inverted.",
    .inputs = {{{"x"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require(is_integer(c.input(0).dtype), c.input(0), "an integer type"));
      return ops::infer_same_number(c);
    },
    .reference = [](const EvalContext& c) { return ops::unary(c, {.integer = [](std::int64_t x) { return ~x; }}); },
};

}  // namespace aoq
