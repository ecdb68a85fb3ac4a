// Quantizing, dequantizing and fake-quantizing whole tensors, in the arithmetic of each of PyTorch's and torchao's
// forms (spec C.5, D.4). Results have the shape of the input; codes of less than a byte are packed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/qparams.h"

namespace aoq {

// C.5, torch.quantize_per_tensor and _per_channel (q.axis), quantized_decomposed.quantize_per_tensor and _per_channel:
// f32 times the fp32 reciprocal of the scale, rounded, then the zero point, then the clamp to q.range. NaN becomes the
// lowest code. With a float zero point it is added before rounding.
Result<Tensor> quantize_tensor(TensorView x, const QParams& q);
// f32: (code - zero point) * scale.
Result<Tensor> dequantize_tensor(TensorView codes, const QParams& q);
// torch.fake_quantize_per_tensor_affine and _per_channel_affine: the two above in one, in f32.
Result<Tensor> fake_quantize_tensor(TensorView x, const QParams& q);

// D.4, torchao's quantize_affine and dequantize_affine: parameters per block of `block_size`, arithmetic in the type of
// `x` (f32, bf16, f16) or of the result.
Result<Tensor> quantize_affine(TensorView x, std::span<const std::int64_t> block_size, const QParams& q);
Result<Tensor> dequantize_affine(TensorView codes, std::span<const std::int64_t> block_size, const QParams& q,
                                 DType result);
// D.4, torchao's fake_quantize_affine: the two above in one, in the type of `x`.
Result<Tensor> fake_quantize_affine(TensorView x, std::span<const std::int64_t> block_size, const QParams& q);
// The same, and where the code was within its range before it was clamped (boolean): fake_quantize_affine_cachemask.
struct MaskedFakeQuantized {
  Tensor values;
  Tensor mask;
};
Result<MaskedFakeQuantized> fake_quantize_affine_with_mask(TensorView x, std::span<const std::int64_t> block_size,
                                                           const QParams& q);
// The forms with a float zero point, which is the value of the middle code.
Result<Tensor> quantize_tinygemm(TensorView x, std::span<const std::int64_t> block_size, const QParams& q);
Result<Tensor> dequantize_tinygemm(TensorView codes, std::span<const std::int64_t> block_size, const QParams& q,
                                   DType result);

// quantized_decomposed.quantize_per_token: one pair per row of the last dimension, zero point added before rounding.
// The parameters of choose_qparams_per_token are fp32, those of its asymmetric form fp64, and the arithmetic follows
// them.
enum class TokenArithmetic : std::uint8_t { f32, f64 };
struct TokenQuantization {
  TokenQParams qparams;
  TokenArithmetic arithmetic = TokenArithmetic::f64;
  DType dtype = DType::i8;
  QRange range{-128, 127};
};
Result<Tensor> decomposed_quantize_per_token(TensorView x, const TokenQuantization& q);
Result<Tensor> decomposed_dequantize_per_token(TensorView codes, const TokenQuantization& q);

// quantized_decomposed.quantize_per_channel_group: groups along the last dimension, zero point added before rounding.
Result<Tensor> decomposed_quantize_per_channel_group(TensorView x, std::int64_t group_size, const QParams& q);
Result<Tensor> decomposed_dequantize_per_channel_group(TensorView codes, std::int64_t group_size, const QParams& q);

}  // namespace aoq
