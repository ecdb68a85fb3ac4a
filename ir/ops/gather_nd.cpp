#include <algorithm>

#include "ir/ops/indexing.h"

namespace aoq {

const OpDef kOpDef_gather_nd = {
    .op = Op::gather_nd,
    .name = "gather_nd",
    .doc =
        "The slices of x that the rows of indices address: a row indexes the dimensions after the first batch_dims, "
        "which x and the indices share.",
    .inputs = {{{"x"}, {"indices"}}},
    .attributes = {{{"batch_dims", AttributeKind::integer, "0", ""}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      const Type& indices = c.input(1);
      AOQ_TRY(ops::require_index(indices));
      AOQ_TRY(ops::require_rank(indices, 1, static_cast<std::int64_t>(kMaxRank)));
      std::int64_t batch = c.attributes.integer("batch_dims");
      AOQ_TRY(ops::require_range("batch_dims", batch, 0, std::min(x.rank(), indices.rank() - 1)));
      AOQ_TRY(ops::require(indices.shape.back().is_constant(), indices, "a last dimension that is a number"));
      std::int64_t depth = indices.shape.back().constant();
      AOQ_TRY(ops::require_range("length of an index row", depth, 0, x.rank() - batch));
      for (std::size_t d = 0; d < static_cast<std::size_t>(batch); ++d) {
        if (ops::may_equal(x.shape[d], indices.shape[d])) continue;
        return error(Code::invalid_model, "x is {} and indices are {}, expected one batch dimension {}", to_string(x),
                     to_string(indices), d);
      }
      std::vector<Dim> shape(indices.shape.begin(), indices.shape.end() - 1);
      shape.insert(shape.end(), x.shape.begin() + batch + depth, x.shape.end());
      return std::vector<Type>{ops::moved(x, std::move(shape))};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const TensorView& indices = c.inputs[1];
      auto batch_dims = static_cast<std::size_t>(c.attributes.integer("batch_dims"));
      auto depth = static_cast<std::size_t>(indices.shape.back());
      std::int64_t inner = ops::count(x.shape, batch_dims + depth, x.shape.size());
      std::int64_t batch_size = ops::count(x.shape, batch_dims, x.shape.size());
      std::int64_t rows_per_batch = ops::count(indices.shape, batch_dims, indices.shape.size() - 1);
      std::int64_t rows = ops::count(indices.shape, 0, indices.shape.size() - 1);
      for (std::int64_t r = 0; r < rows; ++r) {
        AOQ_ASSIGN(std::int64_t offset, ops::load_index_row(indices, r, x.shape, batch_dims));
        std::int64_t from = r / rows_per_batch * batch_size + offset;
        ops::copy_elements(x.dtype, x.data, from, c.outputs[0].data, r * inner, inner);
      }
      return {};
    },
};

}  // namespace aoq
