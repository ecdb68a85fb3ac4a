#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_selu = {
    .op = Op::selu,
    .name = "selu",
    .doc = "gamma * x above 0, gamma * (alpha * exp(x) - alpha) below.",
    .inputs = {{{"x"}}},
    .attributes = {{{"alpha", AttributeKind::real, "1.67326319217681884765625", ""},
                    {"gamma", AttributeKind::real, "1.05070102214813232421875", ""}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_finite(c.attributes, "alpha"));
      AOQ_TRY(ops::require_finite(c.attributes, "gamma"));
      return ops::infer_same_float(c);
    },
    .reference =
        [](const EvalContext& c) {
          ops::Parameters parameters{static_cast<float>(c.attributes.real("alpha")),
                                     static_cast<float>(c.attributes.real("gamma"))};
          return ops::unary_float(c, parameters, [](float x, ops::Parameters p) {
            return x > 0 ? p.b * x : p.b * (p.a * math::exp(x) - p.a);
          });
        },
};

}  // namespace aoq
