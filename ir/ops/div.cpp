#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_div = {
    .op = Op::div,
    .name = "div",
    .doc = "a / b with broadcasting; integers truncate, and a zero divisor is an error.",
    .inputs = {{{"a"}, {"b"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_broadcast,
    .reference = [](const EvalContext& c) -> Status {
      AOQ_TRY(ops::check_divisor(c));
      return ops::binary(
          c, {.f32 = [](float a, float b) { return a / b; },
              .f64 = [](double a, double b) { return a / b; },
              .integer = [](std::int64_t a, std::int64_t b) { return b == -1 ? ops::wrap_sub(0, a) : a / b; },
              .u64 = [](std::uint64_t a, std::uint64_t b) { return a / b; }});
    },
};

}  // namespace aoq
