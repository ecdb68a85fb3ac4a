// A linear layer's weight as torchao's quantized tensors hold it, and the layer's result with it (pytorch-semantics
// D.9).
//
// These are functions on tensors, in the arithmetic of PyTorch's own kernels: what golden results and weight algorithms
// are measured by. Graphs hold the same codes and run by the kernels of linear_weight_only and linear_dynamic.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/granularity.h"
#include "passes/quantize/qparams.h"

namespace aoq::torchao {

// What happens to the layer's input, of the shape [..., K], in front of the product.
struct ActivationQuantization {
  DType dtype = DType::i8;  // i8, or a float of 8 bits
  MappingType mapping = MappingType::symmetric;
  Granularity granularity{Granularity::Kind::token, 0};  // token, or tensor
  // Static: the scale of the whole tensor. Absent: chosen anew for every input.
  std::optional<TensorQParams> fixed;
};

enum class Product : std::uint8_t {
  scaled,       // sums of codes, scaled afterwards: Int8Tensor
  dequantized,  // sums of dequantized numbers: IntxUnpackedToInt8Tensor, Int4Tensor
};

struct QuantizedWeight {
  Tensor codes;                          // [N, K]
  std::vector<std::int64_t> block_size;  // elements that share a scale, per dimension
  QParams qparams;                       // per block; scales and float zero points are numbers of `dtype`
  DType dtype = DType::f32;              // of the float weight: f32, bf16 or f16
  Product product = Product::dequantized;
  std::optional<ActivationQuantization> activation;  // absent: the input stays in float
  std::vector<float> pre_scale;                      // [K], multiplies the input first; empty: none

  // Scales and zero points have this shape: the codes' extents over those of a block.
  std::vector<std::int64_t> parameter_shape() const;
};

// Int8Tensor: i8 codes over [-128, 127], PerRow, PerTensor or PerGroup(g), eps 2^-23.
Result<QuantizedWeight> int8_weight(TensorView weight, const Granularity& granularity);

// IntxUnpackedToInt8Tensor: i1 to i8, PerGroup(g) or PerAxis(0), eps that of the weight's type. `scale_dtype` rounds
// the scales once more.
struct IntxForm {
  DType dtype = DType::i8;
  Granularity granularity{Granularity::Kind::group, 32};
  MappingType mapping = MappingType::symmetric;
  std::optional<DType> scale_dtype;
};
Result<QuantizedWeight> intx_weight(TensorView weight, const IntxForm& form);

// Int4Tensor: u4 codes with a scale of at least 1e-6 / 15 and a float zero point per group along K (D.8); the codes are
// torchao's plus 8.
Result<QuantizedWeight> int4_weight(TensorView weight, std::int64_t group_size);

// [N, K] in the weight's dtype.
Result<Tensor> dequantize(const QuantizedWeight& weight);

// The layer: x [..., K] in the weight's dtype, bias [N] or null; gives [..., N]. Float sums have another order than
// PyTorch's. invalid_argument for shapes or types that do not fit; invalid_data for NaN and infinity in x where it is
// quantized.
Result<Tensor> linear(const QuantizedWeight& weight, TensorView x, const Tensor* bias);

}  // namespace aoq::torchao
