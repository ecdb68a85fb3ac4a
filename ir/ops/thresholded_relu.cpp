#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_thresholded_relu = {
    .op = Op::thresholded_relu,
    .name = "thresholded_relu",
    .doc = "x above alpha, 0 elsewhere.",
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
          return ops::unary_float(c, parameters, [](float x, ops::Parameters p) {
            return x > p.a ? x : x != x ? x : 0.0f;
          });
        },
};

}  // namespace aoq
