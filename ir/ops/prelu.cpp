#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_prelu = {
    .op = Op::prelu,
    .name = "prelu",
    .doc = "x above 0, slope * x below; slope broadcasts to x.",
    .inputs = {{{"x"}, {"slope"}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_ASSIGN(std::vector<Type> types, ops::infer_broadcast(c));
      AOQ_TRY(ops::require_shape("x broadcast with slope", types[0], c.input(0).shape));
      return types;
    },
    .reference =
        [](const EvalContext& c) {
          return ops::binary(
              c, {.f32 = [](float x, float slope) { return x < 0 ? slope * x : x; },
                  .f64 = [](double x, double slope) { return x < 0 ? slope * x : x; },
                  .integer = [](std::int64_t x, std::int64_t slope) { return x < 0 ? ops::wrap_mul(slope, x) : x; },
                  .u64 = [](std::uint64_t x, std::uint64_t) { return x; }});
        },
};

}  // namespace aoq
