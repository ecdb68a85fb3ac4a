// Convolution geometry, shared by conv, conv_transpose and qconv.
#pragma once

#include "ir/ops/window.h"

namespace aoq::ops {

// Shapes of x, weight [O, I/g, k...] (conv) or [I, O/g, k...] (transposed) and the optional bias, without their types.
Result<std::vector<Dim>> infer_conv_shape(const InferContext& c, WindowDirection direction);

// The concrete sizes of one convolution.
struct ConvGeometry {
  Plane in, out;
  std::int64_t groups, in_channels, out_channels;  // the last two: of one group
  std::int64_t positions;                          // of the kernel
  TapFinder taps;
  WindowDirection direction;

  // The weight element between channel `in` and channel `out` of a group at a kernel position.
  std::int64_t weight_index(std::int64_t group, std::int64_t out, std::int64_t in, std::int64_t position) const;
};
ConvGeometry conv_geometry(const EvalContext& c, WindowDirection direction);

// Calls `finish(accumulators of one group, n, group, output pixel)` for every output pixel and group. The chain of each
// output goes over the kernel positions row-major, then over the input channels, in fused multiply-adds.
struct ConvFinish {
  const void* context;
  void (*call)(const void* context, std::span<const float> accumulators, std::int64_t first_index, std::int64_t step,
               std::int64_t first_channel);
};
void convolve(ConvGeometry& geometry, const float* x, const float* weight, const ConvFinish& finish);

}  // namespace aoq::ops
