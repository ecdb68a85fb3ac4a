#include <algorithm>

#include "ir/ops/window.h"

namespace aoq {

const OpDef kOpDef_local_response_norm = {
    .op = Op::local_response_norm,
    .name = "local_response_norm",
    .doc =
        "x / (bias + alpha / size * s)^beta, where s is the sum of squares over the channels from (size - 1) / 2 "
        "before "
        "to size / 2 after.",
    .inputs = {{{"x"}}},
    .attributes = {{{"size", AttributeKind::integer, ops::kRequired, "channels summed over"},
                    {"alpha", AttributeKind::real, "0.0001", ""},
                    {"beta", AttributeKind::real, "0.75", ""},
                    {"bias", AttributeKind::real, "1", ""},
                    ops::kChannelsLast}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_rank(c.input(0), 2, static_cast<std::int64_t>(kMaxRank)));
      AOQ_TRY(ops::require_range("size", c.attributes.integer("size"), 1, std::int64_t{1} << 31));
      for (const char* name : {"alpha", "beta", "bias"}) AOQ_TRY(ops::require_finite(c.attributes, name));
      return ops::infer_same_float(c);
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::Plane plane(ops::layout_of(c.attributes, c.inputs[0].shape.size()), c.inputs[0].shape);
      ops::FloatInput x(c.inputs[0]);
      ops::FloatOutput y(c.outputs[0]);
      std::int64_t size = c.attributes.integer("size");
      float alpha = static_cast<float>(c.attributes.real("alpha")) / static_cast<float>(size);
      auto bias = static_cast<float>(c.attributes.real("bias"));
      double beta = c.attributes.real("beta");
      for (std::int64_t i = 0; i < plane.batch * plane.pixels; ++i) {
        for (std::int64_t channel = 0; channel < plane.channels; ++channel) {
          std::int64_t first = std::max<std::int64_t>(0, channel - (size - 1) / 2);
          std::int64_t last = std::min(plane.channels - 1, channel + size / 2);
          float sum = 0.0f;
          for (std::int64_t k = first; k <= last; ++k) {
            float v = x[plane.index(i / plane.pixels, k, i % plane.pixels)];
            sum += v * v;
          }
          std::int64_t at = plane.index(i / plane.pixels, channel, i % plane.pixels);
          y[at] = x[at] / static_cast<float>(std::pow(static_cast<double>(bias + alpha * sum), beta));
        }
      }
      return {};
    },
};

}  // namespace aoq
