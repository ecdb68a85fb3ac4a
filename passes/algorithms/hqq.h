// HQQ: scale and zero point that minimise a sparse norm of the weight's error, without data (Badri and Shaji, 2023,
// "Half-Quadratic Quantization of Large Machine Learning Models"; pytorch-semantics D.10).
//
// All functions are pure and may be called from any thread. Sums are in the order of PyTorch's kernels; powers may
// differ from them in the last place.
#pragma once

#include <cstdint>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/qparams.h"

namespace aoq {

enum class HqqSearch : std::uint8_t {
  none,      // the range of each group
  proximal,  // 20 steps from there on, or until the mean error of all groups no longer falls
};

struct HqqForm {
  int bits = 4;
  std::int64_t group_size = 64;  // elements of a row that share a scale
  HqqSearch search = HqqSearch::proximal;
  DType parameters = DType::f32;  // of scales and zero points: f32, bf16 or f16
};

struct HqqWeight {
  Tensor codes;  // u<bits>, in the shape of the weight
  Tensor scale;  // [N, K / group_size] of the form's type
  Tensor zero;   // the same
};

// weight ~ (code - zero) * scale. `weight` is [N, K] in f32, bf16 or f16, and is computed with in f32. A group of equal
// numbers has the scale 1 / 20000. invalid_argument for a shape, bits or a group that make no sense; invalid_data for
// an empty weight, NaN, infinity, and a group whose scale or zero point would not be finite.
Result<HqqWeight> hqq_quantize(TensorView weight, const HqqForm& form);

// The same as weight ~ (code - 2^(bits - 1)) * scale + zero: the zero point is the value of the middle code.
Result<HqqWeight> hqq_quantize_tinygemm(TensorView weight, const HqqForm& form);

struct ScaleOnlyHqqForm {
  DType dtype = DType::i4;  // of the codes
  QRange range{-8, 7};
  std::int64_t group_size = 32;
  int iterations = 20;
};

struct ScaleOnlyHqqWeight {
  Tensor codes;  // in the shape of the weight
  Tensor scale;  // [N, K / group_size] in the weight's type
};

// Symmetric: weight ~ code * scale, the scale by least squares for the codes of the step before, until no scale moves
// by 1e-5 of itself. Scales are at least 2^-23. Errors as those of hqq_quantize.
Result<ScaleOnlyHqqWeight> hqq_quantize_scale_only(TensorView weight, const ScaleOnlyHqqForm& form);

}  // namespace aoq
