// The order in which block-scaled matrix units read scales (pytorch-semantics D.6; "1D block scaling factors layout" of
// the cuBLAS documentation).
//
// The scales [rows, columns], one byte each, are cut into tiles of 128 x 4, padded with zero bytes. Tiles follow each
// other along the columns, then along the rows; inside a tile of 512 bytes, entry (r, c) lies at
//
//   (r mod 32) * 16 + (r div 32) * 4 + c
#pragma once

#include <cstdint>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// [rows, columns] of a type of 8 bits -> [32 * ceil(rows / 128), 16 * ceil(columns / 4)] of the same type.
// invalid_argument for another rank or width.
Result<Tensor> swizzle_scales(TensorView scales);

// The inverse. invalid_argument where the shape is not the one that rows and columns give.
Result<Tensor> unswizzle_scales(TensorView swizzled, std::int64_t rows, std::int64_t columns);

}  // namespace aoq
