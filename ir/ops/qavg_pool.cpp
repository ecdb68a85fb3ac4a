#include "ir/ops/lowered.h"
#include "ir/ops/window.h"

namespace aoq {

const OpDef kOpDef_qavg_pool = {
    .op = Op::qavg_pool,
    .name = "qavg_pool",
    .doc =
        "avg_pool on codes: the exact int32 sum of (x - x_zero_point), times (x_scale / out_scale) / count; for an f32 "
        "result x_scale / count. Padding adds 0.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kKernel,
                    ops::kStride,
                    ops::kDilation,
                    ops::kPads,
                    ops::kCeilMode,
                    ops::kCountIncludePad,
                    ops::kChannelsLast,
                    {"x_scale", AttributeKind::real, ops::kRequired, ""},
                    {"x_zero_point", AttributeKind::integer, "0", ""},
                    ops::kOutDtype,
                    ops::kOutScale,
                    ops::kOutZeroPoint}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::check_codes(c, 0, "x"));
      AOQ_TRY(ops::check_output(c));
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_pool_shape(c));
      return ops::one_result(ops::output_dtype(c), std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::Codes x = ops::read_codes(c, 0, "x");
      ops::Output out = ops::read_output(c);
      if (!std::isfinite(x.scale / out.scale))
        return error(Code::invalid_data, "the scales are out of the range of f32");
      ops::Layout layout = ops::layout_of(c.attributes, c.inputs[0].shape.size());
      ops::Plane from(layout, c.inputs[0].shape);
      ops::Plane to(layout, c.outputs[0].shape);
      ops::TapFinder finder = ops::pool_taps(c, from, to);
      for (std::int64_t pixel = 0; pixel < to.pixels; ++pixel) {
        const std::vector<ops::Tap>& taps = finder.at(pixel);
        bool with_padding = c.attributes.boolean("count_include_pad");
        std::int64_t n = with_padding ? finder.padded_count(pixel) : static_cast<std::int64_t>(taps.size());
        float multiplier = n == 0 ? 0.0f : x.scale / out.scale / static_cast<float>(n);
        for (std::int64_t i = 0; i < to.batch * to.channels; ++i) {
          std::uint32_t sum = 0;
          for (const ops::Tap& tap : taps) {
            sum += static_cast<std::uint32_t>(x[from.index(i / to.channels, i % to.channels, tap.pixel)]);
          }
          out.store_product(to.index(i / to.channels, i % to.channels, pixel), static_cast<std::int32_t>(sum),
                            multiplier);
        }
      }
      return {};
    },
};

}  // namespace aoq
