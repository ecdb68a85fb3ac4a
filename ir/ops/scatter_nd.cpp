#include "ir/ops/indexing.h"

namespace aoq {

const OpDef kOpDef_scatter_nd = {
    .op = Op::scatter_nd,
    .name = "scatter_nd",
    .doc = "x with update slices put where the rows of indices address; in order, the last one stays.",
    .inputs = {{{"x"}, {"indices"}, {"updates"}}},
    .attributes = {{{"reduction", AttributeKind::string, "none", "how an update joins: none, add, mul, max or min"}}},
    .traits = kDataMovement,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      const Type& indices = c.input(1);
      AOQ_TRY(ops::require_index(indices));
      AOQ_TRY(ops::require(c.input(2).dtype == x.dtype, c.input(2), dtype_name(x.dtype)));
      AOQ_TRY(ops::require(!x.quantization, x, "a type that is not quantized"));
      AOQ_TRY(ops::require_rank(indices, 1, static_cast<std::int64_t>(kMaxRank)));
      AOQ_TRY(ops::require(indices.shape.back().is_constant(), indices, "a last dimension that is a number"));
      std::int64_t depth = indices.shape.back().constant();
      AOQ_TRY(ops::require_range("length of an index row", depth, 0, x.rank()));
      AOQ_TRY(ops::check_reduction(c));
      std::vector<Dim> expected(indices.shape.begin(), indices.shape.end() - 1);
      expected.insert(expected.end(), x.shape.begin() + depth, x.shape.end());
      AOQ_TRY(ops::require_shape("updates", c.input(2), expected));
      return std::vector<Type>{ops::plain(x)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const TensorView& indices = c.inputs[1];
      ops::copy_elements(x.dtype, x.data, 0, c.outputs[0].data, 0, x.element_count());
      std::int64_t inner = ops::count(x.shape, static_cast<std::size_t>(indices.shape.back()), x.shape.size());
      std::int64_t rows = ops::count(indices.shape, 0, indices.shape.size() - 1);
      for (std::int64_t r = 0; r < rows; ++r) {
        AOQ_ASSIGN(std::int64_t to, ops::load_index_row(indices, r, x.shape, 0));
        for (std::int64_t i = 0; i < inner; ++i) ops::scatter_element(c, r * inner + i, to + i);
      }
      return {};
    },
};

}  // namespace aoq
