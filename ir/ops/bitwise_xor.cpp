#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_bitwise_xor = {
    .op = Op::bitwise_xor,
    .name = "bitwise_xor",
    .doc = "The bits set in exactly one, with broadcasting.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::float_only,
    .infer = ops::infer_broadcast_integer,
    .reference =
        [](const EvalContext& c) {
          return ops::binary(c, {.integer = [](std::int64_t a, std::int64_t b) { return a ^ b; }});
        },
};

}  // namespace aoq
