#include "ir/ops/window.h"

namespace aoq {

const OpDef kOpDef_avg_pool = {
    .op = Op::avg_pool,
    .name = "avg_pool",
    .doc = "The sum of each window in row-major order, divided by the number of its elements.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kKernel, ops::kStride, ops::kDilation, ops::kPads, ops::kCeilMode, ops::kCountIncludePad,
                    ops::kChannelsLast}},
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_float(c.input(0)));
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_pool_shape(c));
      return ops::one_result(c.input(0).dtype, std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::Layout layout = ops::layout_of(c.attributes, c.inputs[0].shape.size());
      ops::Plane in(layout, c.inputs[0].shape);
      ops::Plane out(layout, c.outputs[0].shape);
      ops::TapFinder finder = ops::pool_taps(c, in, out);
      ops::FloatInput x(c.inputs[0]);
      ops::FloatOutput y(c.outputs[0]);
      for (std::int64_t pixel = 0; pixel < out.pixels; ++pixel) {
        const std::vector<ops::Tap>& taps = finder.at(pixel);
        bool with_padding = c.attributes.boolean("count_include_pad");
        std::int64_t n = with_padding ? finder.padded_count(pixel) : static_cast<std::int64_t>(taps.size());
        for (std::int64_t i = 0; i < out.batch * out.channels; ++i) {
          float sum = 0.0f;
          for (const ops::Tap& tap : taps) sum += x[in.index(i / out.channels, i % out.channels, tap.pixel)];
          // A window that lies in the padding alone has nothing to average.
          y[out.index(i / out.channels, i % out.channels, pixel)] = n == 0 ? 0.0f : sum / static_cast<float>(n);
        }
      }
      return {};
    },
};

}  // namespace aoq
