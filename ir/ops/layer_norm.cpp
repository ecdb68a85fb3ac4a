#include "ir/math.h"
#include "ir/ops/normalization.h"

namespace aoq {

const OpDef kOpDef_layer_norm = {
    .op = Op::layer_norm,
    .name = "layer_norm",
    .doc = "(x - mean) / sqrt(variance + epsilon) * weight + bias over the dimensions from axis on, as ir/math.h says.",
    .inputs = {{{"x"}, {"weight", Arity::optional}, {"bias", Arity::optional}}},
    .attributes = {{{"axis", AttributeKind::integer, "-1", "the first dimension of a row"}, ops::kEpsilon}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_row_norm,
    .reference = [](const EvalContext& c) -> Status {
      ops::FloatInput x(c.inputs[0]);
      ops::FloatInput weight(c.has(1) ? c.inputs[1] : TensorView{});
      ops::FloatInput bias(c.has(2) ? c.inputs[2] : TensorView{});
      ops::FloatOutput y(c.outputs[0]);
      math::LayerNormParams params{weight.data(), bias.data(), static_cast<float>(c.attributes.real("epsilon"))};
      ops::Rows rows = ops::rows_from_axis(c);
      for (std::int64_t r = 0; r < rows.count; ++r) {
        math::layer_norm_row(x.data() + r * rows.length, y.data() + r * rows.length, rows.length, params);
      }
      return {};
    },
};

}  // namespace aoq
