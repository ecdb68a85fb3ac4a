#include "passes/quantize/block_codes.h"

#include "ir/checked.h"

namespace aoq {

Result<LastDimensionBlocks> last_dimension_blocks(std::span<const std::int64_t> shape, std::int64_t block_size) {
  if (shape.empty() || block_size < 1 || shape.back() % block_size != 0) {
    return error(Code::invalid_argument, "blocks of {} do not divide the last dimension of shape {}", block_size,
                 shape_to_string(shape));
  }
  LastDimensionBlocks blocks;
  blocks.scale_shape.assign(shape.begin(), shape.end());
  blocks.scale_shape.back() /= block_size;
  const std::optional<std::int64_t> count = checked::element_count(blocks.scale_shape);
  if (!count) return error(Code::invalid_argument, "a tensor of shape {}", shape_to_string(shape));
  blocks.count = *count;
  return blocks;
}

Result<std::int64_t> block_size_of_scales(std::span<const std::int64_t> shape, const TensorView& scales, DType dtype) {
  if (scales.dtype != dtype) {
    return error(Code::invalid_argument, "scales of type {}, expected {}", dtype_name(scales.dtype), dtype_name(dtype));
  }
  const bool same_rank = !shape.empty() && scales.shape.size() == shape.size();
  const std::int64_t per_row = same_rank ? scales.shape.back() : 0;
  const std::int64_t block_size = per_row > 0 ? shape.back() / per_row : 1;
  if (same_rank) {
    const Result<LastDimensionBlocks> blocks = last_dimension_blocks(shape, std::max<std::int64_t>(block_size, 1));
    if (blocks.ok() && std::equal(scales.shape.begin(), scales.shape.end(), blocks->scale_shape.begin())) {
      return std::max<std::int64_t>(block_size, 1);
    }
  }
  return error(Code::invalid_argument, "scales of shape {} for codes of shape {}", shape_to_string(scales.shape),
               shape_to_string(shape));
}

}  // namespace aoq
