// Windows that slide over the spatial dimensions: what pooling and convolution share.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

// Attribute rows that the ops list.
inline constexpr AttributeDef kKernel = {"kernel", AttributeKind::integers, kRequired, "one per spatial dimension"};
inline constexpr AttributeDef kStride = {"stride", AttributeKind::integers, "[]", "one per spatial dimension; none: 1"};
inline constexpr AttributeDef kDilation = {"dilation", AttributeKind::integers, "[]",
                                           "one per spatial dimension; none: 1"};
inline constexpr AttributeDef kPads = {"pads", AttributeKind::integers, "[]", "begins, then ends; none: 0"};
inline constexpr AttributeDef kGroups = {"groups", AttributeKind::integer, "1", ""};
inline constexpr AttributeDef kCeilMode = {"ceil_mode", AttributeKind::boolean, "false",
                                           "a last window may reach past the end"};
inline constexpr AttributeDef kCountIncludePad = {"count_include_pad", AttributeKind::boolean, "false",
                                                  "padding counts as zeros"};
inline constexpr AttributeDef kChannelsLast = {"channels_last", AttributeKind::boolean, "false",
                                               "x and the result are [N, spatial..., C]"};

// One entry per spatial dimension.
struct Window {
  Sizes kernel, stride, dilation, pad_begin, pad_end;
};
// Reads and range-checks stride, dilation and pads (and their number) for this kernel.
Result<Window> read_window(const Attributes& attributes, std::span<const std::int64_t> kernel);

enum class Rounding { floor, ceil };
// The output length along spatial dimension d: floor((in + pads - dilation * (kernel - 1) - 1) / stride) + 1. With ceil
// the last window must still start inside the input or its left padding.
Result<Dim> window_output(const Dim& in, const Window& window, std::size_t d, Rounding rounding);

// Where the spatial dimensions and the channels of a [N, C, spatial...] or [N, spatial..., C] shape are.
struct Layout {
  bool channels_last = false;
  std::size_t rank = 0;
  std::size_t channel() const { return channels_last ? rank - 1 : 1; }
  std::size_t spatial(std::size_t d) const { return channels_last ? d + 1 : d + 2; }
  std::size_t spatial_rank() const { return rank - 2; }
};
Layout layout_of(const Attributes& attributes, std::size_t rank);

// Concrete sizes of one such tensor.
struct Plane {
  Layout layout;
  std::int64_t batch = 0, channels = 0, pixels = 0;
  Sizes spatial;

  Plane(Layout layout, std::span<const std::int64_t> shape);
  std::int64_t index(std::int64_t n, std::int64_t channel, std::int64_t pixel) const {
    return layout.channels_last ? (n * pixels + pixel) * channels + channel : (n * channels + channel) * pixels + pixel;
  }
};

// A kernel position that meets an input pixel.
struct Tap {
  std::int64_t position;  // in the kernel, row-major
  std::int64_t pixel;     // in the input plane
};
// The taps of one output pixel, positions ascending; those in the padding are left out. `transposed` runs the window
// backwards: input pixel i reaches output i * stride + dilation * position - pad_begin.
enum class WindowDirection { forward, transposed };
class TapFinder {
 public:
  TapFinder(Window window, Sizes in, Sizes out, WindowDirection direction);
  const std::vector<Tap>& at(std::int64_t out_pixel);
  // Positions of the same window inside the padded input: what an average that counts padding divides by.
  std::int64_t padded_count(std::int64_t out_pixel) const;
  std::int64_t out_pixels() const { return count(out_, 0, out_.size()); }

 private:
  std::int64_t source(std::size_t d, std::int64_t out, std::int64_t k) const;

  Window window_;
  Sizes in_, out_;
  WindowDirection direction_;
  std::vector<Tap> taps_;
};

// The result shape of a pooling op over x.
Result<std::vector<Dim>> infer_pool_shape(const InferContext& c);
TapFinder pool_taps(const EvalContext& c, const Plane& in, const Plane& out);

}  // namespace aoq::ops
