#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_celu = {
    .op = Op::celu,
    .name = "celu",
    .doc = "x above 0, alpha * (exp(x / alpha) - 1) below.",
    .inputs = {{{"x"}}},
    .attributes = {{{"alpha", AttributeKind::real, "1", ""}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_finite(c.attributes, "alpha"));
      if (static_cast<float>(c.attributes.real("alpha")) == 0.0f) return error(Code::invalid_model, "alpha is 0");
      return ops::infer_same_float(c);
    },
    .reference =
        [](const EvalContext& c) {
          ops::Parameters parameters{static_cast<float>(c.attributes.real("alpha"))};
          return ops::unary_float(c, parameters, [](float x, ops::Parameters p) {
            return x > 0 ? x : x < 0 ? p.a * (math::exp(x / p.a) - 1.0f) : x;
          });
        },
};

}  // namespace aoq
