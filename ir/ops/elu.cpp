#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_elu = {
    .op = Op::elu,
    .name = "elu",
    .doc = "x above 0, alpha * (exp(x) - 1) below.",
    .inputs = {{{"x"}}},
    .attributes = {{{"alpha", AttributeKind::real, "1", ""}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_finite(c.attributes, "alpha"));
      return ops::infer_same_float(c);
    },
    .reference =
        [](const EvalContext& c) {
          ops::Parameters parameters{static_cast<float>(c.attributes.real("alpha"))};
          return ops::unary_float(c, parameters,
                                  [](float x, ops::Parameters p) { return x < 0 ? p.a * (math::exp(x) - 1.0f) : x; });
        },
};

}  // namespace aoq
