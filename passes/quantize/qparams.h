// Scale and zero point from a range: the four families of formulas that PyTorch and torchao use. They differ in
// rounding, in precision and in what they do at the edges, so they are four functions; spec/pytorch-semantics names the
// sections.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ir/dtype.h"
#include "ir/dynamic_qparams.h"
#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/granularity.h"

namespace aoq {

// How a tensor is quantized: one scale and zero point per tensor, channel or block.
struct QParams {
  std::vector<float> scale;
  std::vector<std::int64_t> zero_point;  // as many as scales, or none when `float_zero_point` is used
  std::vector<float> float_zero_point;
  int axis = -1;  // -1: per tensor, or per block in the order of Blocks
  DType dtype = DType::u8;
  QRange range;
};

enum class QScheme : std::uint8_t {
  per_tensor_affine,
  per_tensor_symmetric,
  per_channel_affine,
  per_channel_symmetric,
  per_channel_affine_float_qparams,
};

inline bool is_per_channel(QScheme s) {
  return s >= QScheme::per_channel_affine;
}

// C.1: the codes an observer may use. A custom range is taken as it is, halved (rounding down) when reduced; types
// other than 8-bit ones are not reduced. invalid_argument for f16, bf16 and wider floats, which have no codes, for a
// range that is empty or, when `must_hold_zero`, leaves out 0.
struct QRangeRequest {
  DType dtype = DType::u8;
  std::optional<std::int64_t> min;
  std::optional<std::int64_t> max;
  ReduceRange reduce = ReduceRange::no;
  bool must_hold_zero = true;
};
Result<QRange> observer_qrange(const QRangeRequest& request);

// Family 1, C.2: what observers compute, in fp32. A range that was never set (+inf, -inf) or has no entries gives scale
// 1 and zero point 0; a minimum above its maximum, or NaN, is invalid_data.
struct ObserverFormula {
  QScheme qscheme = QScheme::per_tensor_affine;
  DType dtype = DType::u8;
  QRange range;
  bool has_custom_range = false;
  float eps = 0x1p-23f;
  bool power_of_two_scale = false;
};
Result<QParams> observer_qparams(const ObserverFormula& formula, std::span<const float> min,
                                 std::span<const float> max);

// The smallest power of two that is not below a positive scale (C.4, step 5).
float power_of_two_not_below(float scale);

// Family 2, C.4: choose_quantization_params of ir/dynamic_qparams.h.

// Family 3, end of C.4: the quantized_decomposed operators, on fp32 tensors. An empty tensor or NaN is invalid_data.
Result<TensorQParams> decomposed_choose_qparams(TensorView x, QRange range, double eps);
Result<TensorQParams> decomposed_choose_qparams_symmetric(TensorView x, DType dtype, QRange range, double eps);
// One per row of the last dimension; scales hold fp32 values.
struct TokenQParams {
  std::vector<double> scale;
  std::vector<std::int64_t> zero_point;
};
Result<TokenQParams> decomposed_choose_qparams_per_token(TensorView x);
Result<TokenQParams> decomposed_choose_qparams_per_token_asymmetric(TensorView x);

enum class MappingType : std::uint8_t { symmetric, symmetric_no_clipping_error, asymmetric };

// Family 4, D.3: torchao's choose_qparams_affine. Every operation is rounded to `arithmetic` (f32, bf16 or f16), and so
// are the scales.
struct AffineFormula {
  MappingType mapping = MappingType::asymmetric;
  DType dtype = DType::i8;
  QRange range;
  float eps = 0x1p-23f;
  DType arithmetic = DType::f32;
  bool preserve_zero = true;  // false: choose_qparams_affine_dont_preserve_zero, which may clamp the zero point
  bool power_of_two_scale = false;
};
Result<QParams> choose_qparams_affine_with_min_max(const AffineFormula& formula, std::span<const float> min,
                                                   std::span<const float> max);
// On a tensor of f32, bf16 or f16, in the tensor's own arithmetic; formula.arithmetic is not looked at.
Result<QParams> choose_qparams_affine(const AffineFormula& formula, TensorView x,
                                      std::span<const std::int64_t> block_size);
// The form with a float zero point, the value of the middle code.
Result<QParams> choose_qparams_tinygemm(const AffineFormula& formula, TensorView x,
                                        std::span<const std::int64_t> block_size);

// The eps torchao 0.17 uses when none is given: the machine epsilon of the input's type.
float machine_epsilon(DType dtype);

// The lowest and highest value of each block, NaN where a block has one.
struct BlockRanges {
  std::vector<float> min;
  std::vector<float> max;
};
Result<BlockRanges> block_ranges(TensorView x, const Blocks& blocks);

}  // namespace aoq
