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
#include "passes/quantize/codebook.h"
#include "passes/quantize/granularity.h"
#include "passes/quantize/mx.h"
#include "passes/quantize/qparams.h"

namespace aoq::torchao {

// What happens to the layer's input, of the shape [..., K], in front of the product.
struct ActivationQuantization {
  DType dtype = DType::i8;  // or u8, or a float of 8 bits, whose scale is the largest magnitude over the type's
  MappingType mapping = MappingType::symmetric;
  Granularity granularity{Granularity::Kind::token, 0};  // token, or tensor
  // Static: the scale of the whole tensor. Absent: chosen anew for every input.
  std::optional<TensorQParams> fixed;
  // The type of that scale. PyTorch computes codes in the wider one of it and the input's.
  DType fixed_dtype = DType::bf16;
  // Bounds on the largest magnitude that a float's scale is for.
  std::optional<float> amax_min, amax_max;
};

enum class Product : std::uint8_t {
  scaled,       // sums of codes, scaled afterwards: Int8Tensor
  dequantized,  // sums of dequantized numbers: IntxUnpackedToInt8Tensor, Int4Tensor
};

struct QuantizedWeight {
  Tensor codes;                          // [N, K]: integers, floats of at most 8 bits, or entries of a codebook
  std::vector<std::int64_t> block_size;  // elements that share a scale, per dimension
  QParams qparams;                       // per block; scales and float zero points are numbers of `dtype`
  DType dtype = DType::f32;              // of the float weight: f32, bf16 or f16
  Product product = Product::dequantized;
  std::optional<ActivationQuantization> activation;  // absent: the input stays in float
  std::vector<float> pre_scale;                      // [K], multiplies the input first; empty: none
  // The weight is entries of a table: `codes` has one for each block of elements, and qparams is empty.
  std::optional<Codebook> codebook;

  std::int64_t inputs() const;   // K
  std::int64_t outputs() const;  // N
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

// u1 to u8 over their whole range, affine, in groups along K.
Result<QuantizedWeight> uintx_weight(TensorView weight, DType dtype, std::int64_t group_size);

// Int4Tensor: u4 codes with a scale of at least 1e-6 / 15 and a float zero point per group along K (D.8); the codes are
// torchao's plus 8.
Result<QuantizedWeight> int4_weight(TensorView weight, std::int64_t group_size);

// Float8Tensor: one scale for each row, or for all; a row of zeros has the scale of 1e-12.
Result<QuantizedWeight> float8_weight(TensorView weight, DType dtype, const Granularity& granularity);
// MX blocks along K, and NVFP4 blocks of 16; of two levels the scale of the tensor is folded into theirs.
Result<QuantizedWeight> mx_weight(TensorView weight, const MxForm& form);
enum class Nvfp4Levels : std::uint8_t { one, two };
Result<QuantizedWeight> nvfp4_weight(TensorView weight, Nvfp4Levels levels = Nvfp4Levels::two);
Result<QuantizedWeight> codebook_weight(TensorView weight, const CodebookForm& form);

// [N, K] in the weight's dtype.
Result<Tensor> dequantize(const QuantizedWeight& weight);

// The layer: x [..., K] in the weight's dtype, bias [N] or null; gives [..., N]. Float sums have another order than
// PyTorch's. invalid_argument for shapes or types that do not fit; invalid_data for NaN and infinity in x where it is
// quantized.
Result<Tensor> linear(const QuantizedWeight& weight, TensorView x, const Tensor* bias);

}  // namespace aoq::torchao
