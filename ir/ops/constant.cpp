#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_constant = {
    .op = Op::constant,
    .name = "constant",
    .doc = "A tensor known at compile time: a weight, a table, a number.",
    .attributes = {{{"value", AttributeKind::tensor, ops::kRequired, "the data"}}},
    .traits = kStructural,
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Tensor& value = c.attributes.tensor("value");
      Type type{value.dtype(), {}, std::nullopt};
      for (std::int64_t d : value.shape()) type.shape.emplace_back(d);
      return std::vector<Type>{std::move(type)};
    },
};

}  // namespace aoq
