#include "ir/math.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_gelu = {
    .op = Op::gelu,
    .name = "gelu",
    .doc = "x * (1 + erf(x / sqrt(2))) / 2, or the tanh approximation of it.",
    .inputs = {{{"x"}}},
    .attributes = {{{"approximate", AttributeKind::string, "none", "none or tanh"}}},
    .traits = kElementwise,
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::string& form = c.attributes.string("approximate");
      if (form != "none" && form != "tanh") {
        return error(Code::invalid_model, "approximate is \"{}\", expected none or tanh", form);
      }
      return ops::infer_same_float(c);
    },
    .reference =
        [](const EvalContext& c) {
          return ops::unary_float(c, c.attributes.string("approximate") == "tanh" ? math::gelu_tanh : math::gelu_erf);
        },
};

}  // namespace aoq
