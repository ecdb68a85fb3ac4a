#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_dims = {
    .op = Op::dims,
    .name = "dims",
    .doc = "The values of dimensions as i64 numbers, for arithmetic on shapes at run time.",
    .attributes = {{{"values", AttributeKind::dims, ops::kRequired, ""}}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      return ops::one_result(DType::i64, {static_cast<std::int64_t>(c.attributes.dims("values").size())});
    },
    .reference = [](const EvalContext& c) -> Status {
      const std::vector<Dim>& values = c.attributes.dims("values");
      for (std::size_t i = 0; i < values.size(); ++i) {
        store_integer(DType::i64, c.outputs[0].data, static_cast<std::int64_t>(i), values[i].constant());
      }
      return {};
    },
};

}  // namespace aoq
