#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_hardsigmoid = {
    .op = Op::hardsigmoid,
    .name = "hardsigmoid",
    .doc = "clamp(alpha * x + beta, 0, 1).",
    .inputs = {{{"x"}}},
    .attributes = {{{"alpha", AttributeKind::real, "0.16666666666666666", ""},
                    {"beta", AttributeKind::real, "0.5", ""}}},
    .traits = kElementwise,
    .rule = QuantRule::fixed_qparams,
    .fixed_scale = 1.0f / 256.0f,
    .fixed_zero_point = 0,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_finite(c.attributes, "alpha"));
      AOQ_TRY(ops::require_finite(c.attributes, "beta"));
      return ops::infer_same_float(c);
    },
    .reference =
        [](const EvalContext& c) {
          ops::Parameters parameters{static_cast<float>(c.attributes.real("alpha")),
                                     static_cast<float>(c.attributes.real("beta"))};
          return ops::unary_float(c, parameters,
                                  [](float x, ops::Parameters p) { return math::hardsigmoid(x, p.a, p.b); });
        },
};

}  // namespace aoq
