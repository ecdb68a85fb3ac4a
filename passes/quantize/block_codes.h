// What the block formats share: blocks along the last dimension, and codes as bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

struct LastDimensionBlocks {
  std::int64_t count = 0;
  std::vector<std::int64_t> scale_shape;  // the shape with the last dimension divided
};

// invalid_argument for a scalar, and a block size that does not divide the last dimension.
Result<LastDimensionBlocks> last_dimension_blocks(std::span<const std::int64_t> shape, std::int64_t block_size);

// The block size that the shapes of codes and scales tell. invalid_argument where they do not fit, or the scales have
// another type.
Result<std::int64_t> block_size_of_scales(std::span<const std::int64_t> shape, const TensorView& scales, DType dtype);

// NaN where there is one; 0 for none.
inline float largest_magnitude(std::span<const float> values) {
  float result = 0;
  for (float v : values) {
    const float magnitude = std::fabs(v);
    if (!(magnitude <= result)) result = magnitude;
    if (std::isnan(magnitude)) return magnitude;
  }
  return result;
}

// Writes the bits of one code of a type of up to 8 bits, floats too.
inline void store_code(DType dtype, std::byte* data, std::int64_t index, std::uint32_t code) {
  const int bits = dtype_info(dtype).bits;
  const DType container = bits == 4 ? DType::u4 : bits == 6 ? DType::u6 : DType::u8;
  store_integer(container, data, index, code);
}

}  // namespace aoq
