#include "ir/ops/normalization.h"
#include "ir/ops/window.h"

namespace aoq {

const OpDef kOpDef_batch_norm = {
    .op = Op::batch_norm,
    .name = "batch_norm",
    .doc =
        "(x - mean) * (weight / sqrt(variance + epsilon)) + bias per channel; the factor is computed once a channel.",
    .inputs = {{{"x"}, {"weight"}, {"bias"}, {"mean"}, {"variance"}}},
    .attributes = {{ops::kEpsilon, ops::kChannelsLast}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      AOQ_TRY(ops::require_float(x));
      AOQ_TRY(ops::require_rank(x, 2, static_cast<std::int64_t>(kMaxRank)));
      AOQ_TRY(ops::check_epsilon(c));
      ops::Layout layout = ops::layout_of(c.attributes, x.shape.size());
      AOQ_TRY(ops::check_per_channel(c, 1, x.shape[layout.channel()]));
      return std::vector<Type>{ops::plain(x)};
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::Plane plane(ops::layout_of(c.attributes, c.inputs[0].shape.size()), c.inputs[0].shape);
      ops::FloatInput x(c.inputs[0]);
      ops::FloatInput weight(c.inputs[1]);
      ops::FloatInput bias(c.inputs[2]);
      ops::FloatInput mean(c.inputs[3]);
      ops::FloatInput variance(c.inputs[4]);
      ops::FloatOutput y(c.outputs[0]);
      auto epsilon = static_cast<float>(c.attributes.real("epsilon"));
      for (std::int64_t channel = 0; channel < plane.channels; ++channel) {
        float factor = weight[channel] / std::sqrt(variance[channel] + epsilon);
        for (std::int64_t i = 0; i < plane.batch * plane.pixels; ++i) {
          std::int64_t at = plane.index(i / plane.pixels, channel, i % plane.pixels);
          y[at] = (x[at] - mean[channel]) * factor + bias[channel];
        }
      }
      return {};
    },
};

}  // namespace aoq
