#include "ir/ops/indexing.h"

namespace aoq {

const OpDef kOpDef_scatter_elements = {
    .op = Op::scatter_elements,
    .name = "scatter_elements",
    .doc = "x with each update put at its position with the index put in for the axis; in order, the last one stays.",
    .inputs = {{{"x"}, {"indices"}, {"updates"}}},
    .attributes = {{{"axis", AttributeKind::integer, "0", ""},
                    {"reduction", AttributeKind::string, "none", "how an update joins: none, add, mul, max or min"}}},
    .traits = kDataMovement,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      const Type& indices = c.input(1);
      AOQ_TRY(ops::require_index(indices));
      AOQ_TRY(ops::require(c.input(2).dtype == x.dtype, c.input(2), dtype_name(x.dtype)));
      AOQ_TRY(ops::require(!x.quantization, x, "a type that is not quantized"));
      AOQ_TRY(ops::require_rank(indices, x.rank(), x.rank()));
      AOQ_TRY(ops::require_shape("updates", c.input(2), indices.shape));
      AOQ_TRY(ops::check_reduction(c));
      AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(c.attributes.integer("axis"), x.rank()));
      for (std::size_t d = 0; d < x.shape.size(); ++d) {
        bool constant = x.shape[d].is_constant() && indices.shape[d].is_constant();
        if (static_cast<std::int64_t>(d) == axis || !constant) continue;
        if (indices.shape[d].constant() > x.shape[d].constant()) {
          return error(Code::invalid_model, "indices are {}, which is larger than {} in dimension {}",
                       to_string(indices), to_string(x), d);
        }
      }
      return std::vector<Type>{ops::plain(x)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const TensorView& indices = c.inputs[1];
      std::size_t axis = ops::checked_axis(c, x.shape.size());
      ops::copy_elements(x.dtype, x.data, 0, c.outputs[0].data, 0, x.element_count());
      ops::Sizes strides = ops::row_major_strides(x.shape);
      ops::Sizes at(x.shape.size());
      for (std::int64_t i = 0, n = indices.element_count(); i < n; ++i, ops::next_index(at, indices.shape)) {
        AOQ_ASSIGN(std::int64_t to, ops::load_index(indices, i, x.shape[axis]));
        to *= strides[axis];
        for (std::size_t d = 0; d < at.size(); ++d) to += d == axis ? 0 : at[d] * strides[d];
        ops::scatter_element(c, i, to);
      }
      return {};
    },
};

}  // namespace aoq
