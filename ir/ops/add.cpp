#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_add = {
    .op = Op::add,
    .name = "add",
    .doc = "a + b with broadcasting; integers wrap.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::requantize,
    .infer = ops::infer_broadcast,
    .reference =
        [](const EvalContext& c) {
          return ops::binary_number(
              c, [](float a, float b) { return a + b; },
              [](std::int64_t a, std::int64_t b) {
                return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
              });
        },
};

}  // namespace aoq
