#include "ir/ops/elements.h"
#include "ir/ops/lowered.h"

namespace aoq {

const OpDef kOpDef_lookup = {
    .op = Op::lookup,
    .name = "lookup",
    .doc = "For each code the table's element at code (u8) or code + 128 (i8).",
    .inputs = {{{"x"}, {"table"}}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_codes(c.input(0)));
      const Type& table = c.input(1);
      AOQ_TRY(ops::require(ops::is_code(table.dtype) || table.dtype == DType::f32, table, "a table of u8, i8 or f32"));
      std::vector<Dim> shape{256};
      AOQ_TRY(ops::require_shape("table", table, shape));
      return ops::one_result(table.dtype, c.input(0).shape);
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const TensorView& table = c.inputs[1];
      std::int64_t offset = x.dtype == DType::i8 ? 128 : 0;
      for (std::int64_t i = 0, n = x.element_count(); i < n; ++i) {
        std::int64_t code = load_integer(x.dtype, x.data, i) + offset;
        ops::copy_elements(table.dtype, table.data, code, c.outputs[0].data, i, 1);
      }
      return {};
    },
};

}  // namespace aoq
