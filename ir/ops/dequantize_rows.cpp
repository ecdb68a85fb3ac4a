#include <algorithm>

#include "ir/ops/embedding.h"

namespace aoq {

const OpDef kOpDef_dequantize_rows = {
    .op = Op::dequantize_rows,
    .name = "dequantize_rows",
    .doc =
        "A table of quantized rows as floats: fma(code, scale of the row, bias of the row). Codes of 4 bits lie two in "
        "a byte, the even element low.",
    .inputs = {{{"codes"}, {"scale"}, {"bias"}}},
    .attributes = {{ops::kBits, ops::kColumns}},
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::check_rows(c));
      return ops::one_result(DType::f32, {c.input(0).shape[0], Dim(c.attributes.integer("columns"))});
    },
    .reference = [](const EvalContext& c) -> Status {
      const ops::QuantizedRows table(c);
      auto* y = reinterpret_cast<float*>(c.outputs[0].data);
      std::fill_n(y, c.outputs[0].element_count(), 0.0f);
      std::vector<float> values(static_cast<std::size_t>(table.columns));
      for (std::int64_t r = 0; r < table.rows; ++r) table.accumulate(r, values.data(), y + r * table.columns);
      return {};
    },
};

}  // namespace aoq
