#include "ir/ops/convolution.h"

#include <algorithm>

#include "ir/ops/fma.h"

namespace aoq::ops {

namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 31;

Result<Sizes> constant_weight_shape(const Type& weight, std::int64_t rank) {
  AOQ_TRY(require_rank(weight, rank, rank));
  AOQ_TRY(require(all_constant(weight.shape), weight, "a weight whose dimensions are numbers"));
  Sizes shape;
  for (const Dim& d : weight.shape) shape.push_back(d.constant());
  return shape;
}

Result<Dim> transposed_output(const Dim& in, const Window& w, std::size_t d, std::int64_t output_padding) {
  AOQ_TRY(require_range("output_padding", output_padding, 0, std::max(w.stride[d], w.dilation[d]) - 1));
  if (in == Dim(0)) return Dim(0);
  std::int64_t extra = w.dilation[d] * (w.kernel[d] - 1) + 1 + output_padding - w.pad_begin[d] - w.pad_end[d];
  Dim out = (in - Dim(1)) * Dim(w.stride[d]) + Dim(extra);
  if (out.is_constant() && out.constant() < 0) {
    return error(Code::invalid_model, "output length along spatial dimension {} is {}", d, out.constant());
  }
  return out;
}

Result<std::vector<Dim>> spatial_shape(const InferContext& c, const Window& window, WindowDirection direction) {
  std::vector<Dim> shape = c.input(0).shape;
  Layout layout = layout_of(c.attributes, shape.size());
  Sizes output_padding(layout.spatial_rank());
  if (direction == WindowDirection::transposed && !c.attributes.integers("output_padding").empty()) {
    output_padding = c.attributes.integers("output_padding");
    if (output_padding.size() != layout.spatial_rank()) {
      return error(Code::invalid_model, "output_padding has {} entries, expected {}", output_padding.size(),
                   layout.spatial_rank());
    }
  }
  for (std::size_t d = 0; d < layout.spatial_rank(); ++d) {
    Dim& dim = shape[layout.spatial(d)];
    if (direction == WindowDirection::forward) {
      AOQ_ASSIGN(dim, window_output(dim, window, d, Rounding::floor));
    } else {
      AOQ_ASSIGN(dim, transposed_output(dim, window, d, output_padding[d]));
    }
  }
  return shape;
}

}  // namespace

Result<std::vector<Dim>> infer_conv_shape(const InferContext& c, WindowDirection direction) {
  const Type& x = c.input(0);
  AOQ_TRY(require_rank(x, 3, 5));
  AOQ_ASSIGN(Sizes weight, constant_weight_shape(c.input(1), x.rank()));
  AOQ_ASSIGN(Window window, read_window(c.attributes, std::span(weight).subspan(2)));
  std::int64_t groups = c.attributes.integer("groups");
  AOQ_TRY(require_range("groups", groups, 1, kLimit - 1));
  AOQ_TRY(require_range("weight dimension 0", weight[0], 0, kLimit - 1));
  AOQ_TRY(require_range("weight dimension 1", weight[1], 0, kLimit - 1));
  if (weight[0] % groups != 0) {
    return error(Code::invalid_model, "weight is {}, expected a multiple of {} groups in dimension 0",
                 to_string(c.input(1)), groups);
  }
  bool forward = direction == WindowDirection::forward;
  std::int64_t in_channels = forward ? weight[1] * groups : weight[0];
  std::int64_t out_channels = forward ? weight[0] : weight[1] * groups;
  Layout layout = layout_of(c.attributes, x.shape.size());
  if (!may_equal(x.shape[layout.channel()], Dim(in_channels))) {
    return error(Code::invalid_model, "x is {}, expected {} channels in dimension {}", to_string(x), in_channels,
                 layout.channel());
  }
  std::vector<Dim> bias_shape{Dim(out_channels)};
  if (c.has(2)) AOQ_TRY(require_shape("bias", c.input(2), bias_shape));
  AOQ_ASSIGN(std::vector<Dim> shape, spatial_shape(c, window, direction));
  shape[layout.channel()] = Dim(out_channels);
  return shape;
}

std::int64_t ConvGeometry::weight_index(std::int64_t group, std::int64_t o, std::int64_t i,
                                        std::int64_t position) const {
  std::int64_t row = direction == WindowDirection::forward ? (group * out_channels + o) * in_channels + i
                                                           : (group * in_channels + i) * out_channels + o;
  return row * positions + position;
}

ConvGeometry conv_geometry(const EvalContext& c, WindowDirection direction) {
  const TensorView& x = c.inputs[0];
  const TensorView& weight = c.inputs[1];
  Layout layout = layout_of(c.attributes, x.shape.size());
  Plane in(layout, x.shape);
  Plane out(layout, c.outputs[0].shape);
  Result<Window> window = read_window(c.attributes, weight.shape.subspan(2));
  AOQ_CHECK(window.ok());
  std::int64_t groups = c.attributes.integer("groups");
  return {in,
          out,
          groups,
          in.channels / groups,
          out.channels / groups,
          count(weight.shape, 2, weight.shape.size()),
          TapFinder(std::move(window).value(), in.spatial, out.spatial, direction),
          direction};
}

namespace {

// [group][position][in channel][out channel], so that one step of the chains reads neighbours.
std::vector<float> pack_weight(const ConvGeometry& g, const float* weight) {
  std::vector<float> packed;
  packed.reserve(static_cast<std::size_t>(g.groups * g.positions * g.in_channels * g.out_channels));
  for (std::int64_t group = 0; group < g.groups; ++group) {
    for (std::int64_t p = 0; p < g.positions; ++p) {
      for (std::int64_t i = 0; i < g.in_channels; ++i) {
        for (std::int64_t o = 0; o < g.out_channels; ++o) packed.push_back(weight[g.weight_index(group, o, i, p)]);
      }
    }
  }
  return packed;
}

}  // namespace

void convolve(ConvGeometry& g, const float* x, const float* weight, const ConvFinish& finish) {
  std::vector<float> packed = pack_weight(g, weight);
  std::vector<float> acc(static_cast<std::size_t>(g.out_channels));
  std::int64_t out_step = g.out.layout.channels_last ? 1 : g.out.pixels;
  std::int64_t in_step = g.in.layout.channels_last ? 1 : g.in.pixels;
  for (std::int64_t pixel = 0; pixel < g.out.pixels; ++pixel) {
    const std::vector<Tap>& taps = g.taps.at(pixel);
    for (std::int64_t i = 0; i < g.in.batch * g.groups; ++i) {
      std::int64_t n = i / g.groups;
      std::int64_t group = i % g.groups;
      std::fill(acc.begin(), acc.end(), 0.0f);
      for (const Tap& tap : taps) {
        const float* in = x + g.in.index(n, group * g.in_channels, tap.pixel);
        const float* w = packed.data() + (group * g.positions + tap.position) * g.in_channels * g.out_channels;
        for (std::int64_t k = 0; k < g.in_channels; ++k) {
          fma_accumulate(in[k * in_step], w + k * g.out_channels, acc.data(), g.out_channels);
        }
      }
      std::int64_t first = group * g.out_channels;
      finish.call(finish.context, acc, g.out.index(n, first, pixel), out_step, first);
    }
  }
}

}  // namespace aoq::ops
