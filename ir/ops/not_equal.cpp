#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_not_equal = {
    .op = Op::not_equal,
    .name = "not_equal",
    .doc = "a != b with broadcasting; a comparison with NaN is true.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise | kCommutative,
    .rule = QuantRule::float_only,
    .infer = ops::infer_compare,
    .reference =
        [](const EvalContext& c) {
          return ops::binary_compare(
              c, [](double a, double b) { return a != b; }, [](std::int64_t a, std::int64_t b) { return a != b; });
        },
};

}  // namespace aoq
