#include "ir/math.h"
#include "ir/ops/normalization.h"

namespace aoq {

const OpDef kOpDef_rms_norm = {
    .op = Op::rms_norm,
    .name = "rms_norm",
    .doc =
        "x * (1 / sqrt(mean(x * x) + epsilon)) * weight over the dimensions from axis on; the mean is a dot product.",
    .inputs = {{{"x"}, {"weight", Arity::optional}}},
    .attributes = {{{"axis", AttributeKind::integer, "-1", "the first dimension of a row"}, ops::kEpsilon}},
    .rule = QuantRule::float_only,
    .infer = ops::infer_row_norm,
    .reference = [](const EvalContext& c) -> Status {
      ops::FloatInput x(c.inputs[0]);
      ops::FloatInput weight(c.has(1) ? c.inputs[1] : TensorView{});
      ops::FloatOutput y(c.outputs[0]);
      auto epsilon = static_cast<float>(c.attributes.real("epsilon"));
      ops::Rows rows = ops::rows_from_axis(c);
      for (std::int64_t r = 0; r < rows.count; ++r) {
        const float* in = x.data() + r * rows.length;
        float mean = math::dot(in, in, rows.length) / static_cast<float>(rows.length);
        float inverse = 1.0f / std::sqrt(mean + epsilon);
        for (std::int64_t i = 0; i < rows.length; ++i) {
          float v = in[i] * inverse;
          y[r * rows.length + i] = c.has(1) ? v * weight[i] : v;
        }
      }
      return {};
    },
};

}  // namespace aoq
