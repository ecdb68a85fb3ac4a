#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_trilu = {
    .op = Op::trilu,
    .name = "trilu",
    .doc = "The upper or lower triangle of the last two dimensions; zeros elsewhere.",
    .inputs = {{{"x"}}},
    .attributes = {{{"upper", AttributeKind::boolean, "true", ""},
                    {"k", AttributeKind::integer, "0", "the diagonal that bounds it; above the main one if positive"}}},
    .traits = kDataMovement,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_rank(c.input(0), 2, static_cast<std::int64_t>(kMaxRank)));
      AOQ_TRY(ops::require(!c.input(0).quantization, c.input(0), "a type that is not quantized"));
      AOQ_TRY(ops::require_range("k", c.attributes.integer("k"), -(std::int64_t{1} << 48), std::int64_t{1} << 48));
      return std::vector<Type>{c.input(0)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const MutableTensorView& y = c.outputs[0];
      std::int64_t rows = x.shape[x.shape.size() - 2];
      std::int64_t columns = x.shape.back();
      bool upper = c.attributes.boolean("upper");
      std::int64_t k = c.attributes.integer("k");
      for (std::int64_t i = 0, n = x.element_count(); i < n; ++i) {
        std::int64_t row = i / columns % rows;
        std::int64_t distance = i % columns - row;
        if (upper ? distance >= k : distance <= k) {
          ops::copy_elements(x.dtype, x.data, i, y.data, i, 1);
        } else {
          store_from_double(y.dtype, y.data, i, 0.0);
        }
      }
      return {};
    },
};

}  // namespace aoq
