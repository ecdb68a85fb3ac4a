// Reads conv, linear, qconv and qlinear nodes for the convolution kernels.
#pragma once

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/conv_dims.h"
#include "backends/cpu/rows/row.h"

namespace aoq::cpu {

// The activation attributes as a kernel takes them.
Result<ActivationParams> activation_of(const Attributes& attributes);

// The geometry of the node at concrete shapes; unsupported with a reason where no convolution kernel takes it.
Result<ConvDims> conv_dims(const PrepareContext& context);
bool is_depthwise(const ConvDims& dims);

// One window attribute per spatial dimension, as (height, width): a one-dimensional one has height `absent`.
struct HeightWidth {
  std::int64_t h, w;
};
HeightWidth window_attribute(const Attributes& attributes, std::string_view name, std::size_t spatial_rank,
                             std::int64_t absent);

}  // namespace aoq::cpu
