#include <algorithm>
#include <limits>

#include "ir/math.h"
#include "ir/ops/window.h"

namespace aoq {

namespace {

void pool_floats(const EvalContext& c, const ops::Plane& in, const ops::Plane& out, ops::TapFinder& finder) {
  ops::FloatInput x(c.inputs[0]);
  ops::FloatOutput y(c.outputs[0]);
  for (std::int64_t pixel = 0; pixel < out.pixels; ++pixel) {
    const std::vector<ops::Tap>& taps = finder.at(pixel);
    for (std::int64_t i = 0; i < out.batch * out.channels; ++i) {
      std::int64_t n = i / out.channels;
      std::int64_t channel = i % out.channels;
      float best = -std::numeric_limits<float>::infinity();
      for (const ops::Tap& tap : taps) best = math::maximum(best, x[in.index(n, channel, tap.pixel)]);
      y[out.index(n, channel, pixel)] = best;
    }
  }
}

void pool_integers(const EvalContext& c, const ops::Plane& in, const ops::Plane& out, ops::TapFinder& finder) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  // Moves the unsigned order onto the signed one.
  std::int64_t flip = x.dtype == DType::u64 ? INT64_MIN : 0;
  std::int64_t lowest = flip != 0 ? INT64_MIN : static_cast<std::int64_t>(dtype_info(x.dtype).min);
  for (std::int64_t pixel = 0; pixel < out.pixels; ++pixel) {
    const std::vector<ops::Tap>& taps = finder.at(pixel);
    for (std::int64_t i = 0; i < out.batch * out.channels; ++i) {
      std::int64_t n = i / out.channels;
      std::int64_t channel = i % out.channels;
      std::int64_t best = lowest;
      for (const ops::Tap& tap : taps) {
        best = std::max(best, load_integer(x.dtype, x.data, in.index(n, channel, tap.pixel)) ^ flip);
      }
      store_integer(y.dtype, y.data, out.index(n, channel, pixel), best ^ flip);
    }
  }
}

Status reference(const EvalContext& c) {
  ops::Layout layout = ops::layout_of(c.attributes, c.inputs[0].shape.size());
  ops::Plane in(layout, c.inputs[0].shape);
  ops::Plane out(layout, c.outputs[0].shape);
  ops::TapFinder finder = ops::pool_taps(c, in, out);
  if (is_integer(c.inputs[0].dtype)) {
    pool_integers(c, in, out, finder);
  } else {
    pool_floats(c, in, out, finder);
  }
  return {};
}

}  // namespace

const OpDef kOpDef_max_pool = {
    .op = Op::max_pool,
    .name = "max_pool",
    .doc = "The largest element of each window; NaN if there is one. Padding does not take part.",
    .inputs = {{{"x"}}},
    .attributes = {{ops::kKernel, ops::kStride, ops::kDilation, ops::kPads, ops::kCeilMode, ops::kChannelsLast}},
    .rule = QuantRule::same_scale,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_ASSIGN(std::vector<Type> same, ops::infer_same_scale(c));
      AOQ_ASSIGN(same[0].shape, ops::infer_pool_shape(c));
      return same;
    },
    .reference = reference,
};

}  // namespace aoq
