#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

const OpDef kOpDef_softmax = {
    .op = Op::softmax,
    .name = "softmax",
    .doc = "exp(x - max) / sum along an axis, as ir/math.h says.",
    .inputs = {{{"x"}}},
    .attributes = {{{"axis", AttributeKind::integer, "-1", ""}}},
    .rule = QuantRule::fixed_qparams,
    .fixed_scale = 1.0f / 256.0f,
    .fixed_zero_point = 0,
    .infer = ops::infer_along_axis,
    .reference = [](const EvalContext& c) -> Status {
      if (c.outputs[0].element_count() == 0) return {};
      ops::FloatInput x(c.inputs[0]);
      ops::FloatOutput y(c.outputs[0]);
      ops::Lines lines = ops::lines_along(c.inputs[0].shape, ops::checked_axis(c, c.inputs[0].shape.size()));
      std::vector<float> line(static_cast<std::size_t>(lines.length));
      for (std::int64_t l = 0; l < lines.count; ++l) {
        std::int64_t at = lines.base(l);
        for (std::size_t k = 0; k < line.size(); ++k) line[k] = x[at + static_cast<std::int64_t>(k) * lines.stride];
        math::softmax_row(line.data(), line.data(), lines.length);
        for (std::size_t k = 0; k < line.size(); ++k) y[at + static_cast<std::int64_t>(k) * lines.stride] = line[k];
      }
      return {};
    },
};

}  // namespace aoq
