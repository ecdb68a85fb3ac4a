#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_softplus = {
    .op = Op::softplus,
    .name = "softplus",
    .doc = "log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold.",
    .inputs = {{{"x"}}},
    .attributes = {{{"beta", AttributeKind::real, "1", ""}, {"threshold", AttributeKind::real, "20", ""}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_finite(c.attributes, "beta"));
      AOQ_TRY(ops::require_finite(c.attributes, "threshold"));
      if (static_cast<float>(c.attributes.real("beta")) == 0.0f) return error(Code::invalid_model, "beta is 0");
      return ops::infer_same_float(c);
    },
    .reference =
        [](const EvalContext& c) {
          ops::Parameters parameters{static_cast<float>(c.attributes.real("beta")),
                                     static_cast<float>(c.attributes.real("threshold"))};
          return ops::unary_float(c, parameters, [](float x, ops::Parameters p) {
            return x * p.a > p.b ? x : math::softplus(x * p.a) / p.a;
          });
        },
};

}  // namespace aoq
