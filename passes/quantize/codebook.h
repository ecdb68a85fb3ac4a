// Codebooks: every block of a tensor is the nearest entry of a table, times a scale (pytorch-semantics D.15).
//
// All functions are pure and may be called from any thread. Nothing is random.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

struct CodebookForm {
  std::vector<std::int64_t> block_size;  // elements that one code stands for, per dimension
  std::int64_t scale_block_size = 0;     // elements along the last dimension that share a scale
  DType code_dtype = DType::u4;          // unsigned, up to 8 bits: 2^bits entries
  int max_iterations = 200;
};

struct Codebook {
  Tensor entries;  // f32 [2^bits, block size ...]
  Tensor scales;   // f32 [..., K / scale_block_size, 1]
};

// The scale of a stretch of one row is its largest number, with its sign, where a code stands for one element, and its
// Euclidean norm otherwise; at least 1e-9. The entries are k-means centroids of the scaled blocks: they start from
// block 0 and then, one after the other, the block that is farthest from all before, and stop when a tenth step moves
// none by more than 1e-6 of itself, or at max_iterations. Entries may repeat when there are fewer different blocks.
//
// x is f32, bf16 or f16. invalid_argument for blocks that do not divide and for another code type; invalid_data for an
// empty tensor and for numbers that are not finite once scaled. Time is blocks * entries * iterations.
Result<Codebook> choose_codebook(TensorView x, const CodebookForm& form);

// The entry of least distance for every block, the first where several are: `code_dtype` of shape [x / block size].
Result<Tensor> quantize_codebook(TensorView x, const Codebook& codebook, DType code_dtype);

// entry * scale in fp32, rounded to `result`. Codes of any unsigned type; invalid_data for one without an entry.
Result<Tensor> dequantize_codebook(TensorView codes, const Codebook& codebook, DType result);

}  // namespace aoq
