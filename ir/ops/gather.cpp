#include "ir/ops/indexing.h"

namespace aoq {

const OpDef kOpDef_gather = {
    .op = Op::gather,
    .name = "gather",
    .doc =
        "The slices of x along an axis that the indices name; the shape of the indices takes the place of the axis. "
        "Negative indices count from the end; one out of range is an error.",
    .inputs = {{{"x"}, {"indices"}}},
    .attributes = {{{"axis", AttributeKind::integer, "0", ""}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      AOQ_TRY(ops::require_index(c.input(1)));
      AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(c.attributes.integer("axis"), x.rank()));
      std::vector<Dim> shape(x.shape.begin(), x.shape.begin() + axis);
      shape.insert(shape.end(), c.input(1).shape.begin(), c.input(1).shape.end());
      shape.insert(shape.end(), x.shape.begin() + axis + 1, x.shape.end());
      return std::vector<Type>{ops::moved(x, std::move(shape))};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const TensorView& indices = c.inputs[1];
      std::size_t axis = ops::checked_axis(c, x.shape.size());
      std::int64_t outer = ops::count(x.shape, 0, axis);
      std::int64_t size = x.shape[axis];
      std::int64_t inner = ops::count(x.shape, axis + 1, x.shape.size());
      std::int64_t n = indices.element_count();
      for (std::int64_t i = 0; i < n; ++i) {
        AOQ_ASSIGN(std::int64_t index, ops::load_index(indices, i, size));
        for (std::int64_t o = 0; o < outer; ++o) {
          ops::copy_elements(x.dtype, x.data, (o * size + index) * inner, c.outputs[0].data, (o * n + i) * inner,
                             inner);
        }
      }
      return {};
    },
};

}  // namespace aoq
