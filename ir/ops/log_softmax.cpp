#include "ir/math.h"
#include "ir/ops/reduction.h"

namespace aoq {

namespace {

void log_softmax_row(float* x, std::int64_t n) {
  float max = math::reduce_max(x, n);
  std::vector<float> terms(x, x + n);
  for (float& v : terms) v = math::exp(v - max);
  float log_sum = math::log(math::reduce_sum(terms.data(), n));
  for (std::int64_t i = 0; i < n; ++i) x[i] = (x[i] - max) - log_sum;
}

}  // namespace

const OpDef kOpDef_log_softmax = {
    .op = Op::log_softmax,
    .name = "log_softmax",
    .doc = "(x - max) - log(sum(exp(x - max))) along an axis.",
    .inputs = {{{"x"}}},
    .attributes = {{{"axis", AttributeKind::integer, "-1", ""}}},
    .rule = QuantRule::float_only,
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
        log_softmax_row(line.data(), lines.length);
        for (std::size_t k = 0; k < line.size(); ++k) y[at + static_cast<std::int64_t>(k) * lines.stride] = line[k];
      }
      return {};
    },
};

}  // namespace aoq
