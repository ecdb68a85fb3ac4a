// Embedding tables as PyTorch packs them: every row is quantized by itself and carries its scale and its smallest
// value.
#pragma once

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// 8 bits: a byte an element, then scale and bias in f32. 4 and 2 bits: packed from the low bits up, then scale and bias
// in f16. value = code * scale + bias. [rows, row bytes] of u8; invalid_argument for other widths and tables that are
// no f32 matrix, invalid_data for elements that are not finite.
Result<Tensor> pack_embedding_rows(TensorView table, int bits);

}  // namespace aoq
