#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_input = {
    .op = Op::input,
    .name = "input",
    .doc = "A graph input. Its dimensions are numbers or expressions over symbols.",
    .attributes = {{{"name", AttributeKind::string, ops::kRequired, "the name callers use"},
                    {"dtype", AttributeKind::dtype, ops::kRequired, ""},
                    {"shape", AttributeKind::dims, ops::kRequired, ""}}},
    .traits = kStructural,
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<Dim>& shape = c.attributes.dims("shape");
      for (const Dim& d : shape) {
        if (d.is_constant() && d.constant() < 0)
          return error(Code::invalid_model, "dimension {} is negative", d.to_string());
      }
      return std::vector<Type>{Type{c.attributes.dtype("dtype"), shape, std::nullopt}};
    },
};

}  // namespace aoq
