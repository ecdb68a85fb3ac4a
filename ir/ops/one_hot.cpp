#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_one_hot = {
    .op = Op::one_hot,
    .name = "one_hot",
    .doc =
        "A new axis of `depth` elements that are `off` except at the index, which is `on`. A negative index counts "
        "from "
        "the end; one out of range leaves only `off`.",
    .inputs = {{{"indices"}}},
    .attributes = {{{"depth", AttributeKind::integer, ops::kRequired, ""},
                    {"axis", AttributeKind::integer, "-1", "where the new axis is in the result"},
                    {"on", AttributeKind::real, "1", ""},
                    {"off", AttributeKind::real, "0", ""},
                    {"dtype", AttributeKind::dtype, "f32", "of the result"}}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& indices = c.input(0);
      AOQ_TRY(ops::require_number(indices));
      AOQ_TRY(ops::require_range("depth", c.attributes.integer("depth"), 0, std::int64_t{1} << 48));
      AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(c.attributes.integer("axis"), indices.rank() + 1));
      std::vector<Dim> shape = indices.shape;
      shape.insert(shape.begin() + axis, Dim(c.attributes.integer("depth")));
      return ops::one_result(c.attributes.dtype("dtype"), std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& indices = c.inputs[0];
      const MutableTensorView& y = c.outputs[0];
      std::int64_t depth = c.attributes.integer("depth");
      std::size_t axis = ops::checked_axis(c, y.shape.size());
      std::int64_t inner = ops::count(y.shape, axis + 1, y.shape.size());
      std::int64_t n = y.element_count();
      for (std::int64_t i = 0; i < n; ++i) store_from_double(y.dtype, y.data, i, c.attributes.real("off"));
      for (std::int64_t i = 0, end = indices.element_count(); i < end && n > 0; ++i) {
        double index = load_as_double(indices.dtype, indices.data, i);
        if (index < 0) index += static_cast<double>(depth);
        if (!(index >= 0 && index < static_cast<double>(depth))) continue;
        std::int64_t at = (i / inner * depth + static_cast<std::int64_t>(index)) * inner + i % inner;
        store_from_double(y.dtype, y.data, at, c.attributes.real("on"));
      }
      return {};
    },
};

}  // namespace aoq
