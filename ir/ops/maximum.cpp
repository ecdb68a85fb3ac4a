#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_maximum = {
    .op = Op::maximum,
    .name = "maximum",
    .doc = "The larger of a and b; NaN if either is.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::same_scale,
    .infer = ops::infer_broadcast_same_scale,
    .reference =
        [](const EvalContext& c) {
          return ops::binary(c, {.f32 = math::maximum,
                                 .f64 = [](double a, double b) { return a != a  ? a
                                                                        : a > b ? a
                                                                                : b; },
                                 .integer = [](std::int64_t a, std::int64_t b) { return a > b ? a : b; },
                                 .u64 = [](std::uint64_t a, std::uint64_t b) { return a > b ? a : b; }});
        },
};

}  // namespace aoq
