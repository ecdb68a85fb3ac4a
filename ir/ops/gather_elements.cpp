#include "ir/ops/indexing.h"

namespace aoq {

const OpDef kOpDef_gather_elements = {
    .op = Op::gather_elements,
    .name = "gather_elements",
    .doc = "For each element of the indices, the element of x at its position with the index put in for the axis.",
    .inputs = {{{"x"}, {"indices"}}},
    .attributes = {{{"axis", AttributeKind::integer, "0", ""}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      const Type& indices = c.input(1);
      AOQ_TRY(ops::require_index(indices));
      AOQ_TRY(ops::require_rank(indices, x.rank(), x.rank()));
      AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(c.attributes.integer("axis"), x.rank()));
      for (std::size_t d = 0; d < x.shape.size(); ++d) {
        bool constant = x.shape[d].is_constant() && indices.shape[d].is_constant();
        if (static_cast<std::int64_t>(d) == axis || !constant) continue;
        if (indices.shape[d].constant() > x.shape[d].constant()) {
          return error(Code::invalid_model, "indices are {}, which is larger than {} in dimension {}",
                       to_string(indices), to_string(x), d);
        }
      }
      return std::vector<Type>{ops::moved(x, indices.shape)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const TensorView& indices = c.inputs[1];
      std::size_t axis = ops::checked_axis(c, x.shape.size());
      ops::Sizes strides = ops::row_major_strides(x.shape);
      ops::Sizes at(x.shape.size());
      for (std::int64_t i = 0, n = indices.element_count(); i < n; ++i, ops::next_index(at, indices.shape)) {
        AOQ_ASSIGN(std::int64_t from, ops::load_index(indices, i, x.shape[axis]));
        from *= strides[axis];
        for (std::size_t d = 0; d < at.size(); ++d) from += d == axis ? 0 : at[d] * strides[d];
        ops::copy_elements(x.dtype, x.data, from, c.outputs[0].data, i, 1);
      }
      return {};
    },
};

}  // namespace aoq
