#include "passes/quantize/scale_swizzle.h"

#include <algorithm>
#include <vector>

#include "ir/checked.h"

namespace aoq {
namespace {

constexpr std::int64_t kTileRows = 128;
constexpr std::int64_t kTileColumns = 4;
constexpr std::int64_t kTileSize = kTileRows * kTileColumns;

std::int64_t tiles(std::int64_t extent, std::int64_t tile) {
  return (extent + tile - 1) / tile;
}

std::vector<std::int64_t> swizzled_shape(std::int64_t rows, std::int64_t columns) {
  return {tiles(rows, kTileRows) * 32, tiles(columns, kTileColumns) * 16};
}

std::int64_t swizzled_index(std::int64_t row, std::int64_t column, std::int64_t columns) {
  const std::int64_t tile = row / kTileRows * tiles(columns, kTileColumns) + column / kTileColumns;
  const std::int64_t r = row % kTileRows;
  return tile * kTileSize + r % 32 * 16 + r / 32 * 4 + column % kTileColumns;
}

Status check_matrix(const TensorView& t) {
  if (t.shape.size() == 2 && dtype_info(t.dtype).bits == 8) return {};
  return error(Code::invalid_argument, "scales of type {} and shape {}, expected a matrix of bytes",
               dtype_name(t.dtype), shape_to_string(t.shape));
}

}  // namespace

Result<Tensor> swizzle_scales(TensorView scales) {
  AOQ_TRY(check_matrix(scales));
  const std::int64_t rows = scales.shape[0], columns = scales.shape[1];
  AOQ_ASSIGN(Tensor out, Tensor::make(scales.dtype, swizzled_shape(rows, columns)));
  std::byte* to = out.mutable_bytes().data();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[swizzled_index(r, c, columns)] = scales.data[r * columns + c];
  }
  return out;
}

Result<Tensor> unswizzle_scales(TensorView swizzled, std::int64_t rows, std::int64_t columns) {
  AOQ_TRY(check_matrix(swizzled));
  const bool is_sane = rows >= 0 && columns >= 0 && rows <= checked::kMaxDimension && columns <= checked::kMaxDimension;
  if (!is_sane || !std::ranges::equal(swizzled.shape, swizzled_shape(rows, columns))) {
    return error(Code::invalid_argument, "scales of shape {} do not hold {} rows of {}",
                 shape_to_string(swizzled.shape), rows, columns);
  }
  AOQ_ASSIGN(Tensor out, Tensor::make(swizzled.dtype, {rows, columns}));
  std::byte* to = out.mutable_bytes().data();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[r * columns + c] = swizzled.data[swizzled_index(r, c, columns)];
  }
  return out;
}

}  // namespace aoq
