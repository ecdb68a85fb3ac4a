#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_less_equal = {
    .op = Op::less_equal,
    .name = "less_equal",
    .doc = "a <= b with broadcasting; a comparison with NaN is false.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_compare,
    .reference =
        [](const EvalContext& c) {
          return ops::binary_compare(
              c, [](double a, double b) { return a <= b; }, [](std::int64_t a, std::int64_t b) { return a <= b; });
        },
};

}  // namespace aoq
